//! From a [`Plan`] to a timely dataflow: one exhaustive match.
//!
//! Every worker compiles the same plan in the same order, so that channels and state find each
//! other by number. What a worker needs beside the plan comes in [`Parts`].

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use serde::{Deserialize, Serialize};
use tidemark_connectors::{Distribution, OutputMode, SinkWriter, SourceReader};
use timely::dataflow::Scope;
use timely::dataflow::operators::Concatenate;

use crate::operators::aggregate::{self, Aggregate};
use crate::operators::deduplicate::Deduplicate;
use crate::operators::filter_project::FilterProject;
use crate::operators::join::{self, Join};
use crate::operators::nearest::{self, Nearest};
use crate::operators::output::{OutputHandle, OutputSpec, output};
use crate::operators::over::{self, Over};
use crate::operators::rank::Rank;
use crate::operators::session_window::{self, SessionWindow};
use crate::operators::source::{SourceHandle, SourceSpec, SplitPool, source};
use crate::operators::unnest::unnest;
use crate::operators::values::values;
use crate::operators::whole::whole;
use crate::operators::{Context, DeltaStream, OperatorError, Restored};
use crate::plan::context::{EvaluationOptions, evaluation_options};
use crate::plan::panes::{Paned, paned};
use crate::plan::{Node, Operator, Plan};
use crate::state::Recorder;
use crate::time::Time;

/// What a worker brings to the plan.
pub struct Parts {
    /// What its operators share.
    pub context: Context,
    /// The reading half of each of the plan's sources.
    pub readers: Vec<Arc<dyn SourceReader>>,
    /// The splits of each use of a source, shared by the workers of this process.
    pub pools: Vec<Arc<SplitPool>>,
    /// How many workers this process has.
    pub local_workers: usize,
    /// Where the sink wants its writers.
    pub distribution: Distribution,
    /// This worker's writer, where it has one.
    pub writer: Option<Box<dyn SinkWriter>>,
    /// Remembers what operators add to their state.
    pub recorder: Recorder,
    /// The state to begin with.
    pub restored: Restored,
}

/// A compiled dataflow, as one worker drives it.
pub struct Dataflow {
    /// Each use of a source, by the source's index in the plan, or [`CLOCK`].
    pub sources: Vec<(usize, SourceHandle)>,
    /// The end.
    pub output: OutputHandle,
    /// The part of the query that each of timely's operators belongs to, by its number.
    pub parts: BTreeMap<usize, Part>,
}

/// What a query's time goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Part {
    /// Reading a source, by its index in the plan.
    Source(usize),
    /// A node of the plan.
    Operator(usize),
    /// Writing.
    Sink,
    /// Logs and state files.
    Checkpoint,
}

/// Stands for a source's index where there is no source, only its epochs.
pub const CLOCK: usize = usize::MAX;

/// The uses of sources in a plan, in the order of their numbers: the source's index of each.
pub fn source_uses(plan: &Plan) -> Vec<usize> {
    fn visit(node: &Node, uses: &mut Vec<usize>) {
        node.inputs.iter().for_each(|input| visit(input, uses));
        if let Operator::Source { source, .. } = &node.operator {
            uses.push(*source);
        }
    }
    let mut uses = vec![];
    visit(&plan.root, &mut uses);
    uses
}

/// The part of a key of some operator's state, by trace, that says which worker it lives on.
pub type Routed = fn(u32, &[u8]) -> &[u8];

/// The operators of a plan where that is not all of the key.
pub fn routed_parts(plan: &Plan) -> BTreeMap<u32, Routed> {
    fn visit(node: &Node, parts: &mut BTreeMap<u32, Routed>) {
        node.inputs.iter().for_each(|input| visit(input, parts));
        let routed: Option<Routed> = match &node.operator {
            Operator::Aggregate(_) => Some(aggregate::routed),
            Operator::SessionWindow(_) => Some(session_window::routed),
            Operator::Join(join) if join::is_timed(join) => Some(join::routed),
            Operator::Nearest(_) => Some(nearest::routed),
            Operator::Over(over) if over.trailing.is_some() => Some(over::routed),
            _ => None,
        };
        parts.extend(routed.map(|routed| (node.id as u32, routed)));
    }
    let mut parts = BTreeMap::new();
    visit(&plan.root, &mut parts);
    parts
}

/// Builds the dataflow of `plan` in `scope`.
pub fn compile(
    scope: Scope<'_, Time>,
    plan: &Plan,
    parts: Parts,
) -> Result<Dataflow, OperatorError> {
    let mut compiler = Compiler {
        scope,
        plan,
        parts,
        sources: vec![],
        uses: 0,
        named: BTreeMap::new(),
        next: scope.worker().peek_identifier(),
        options: Arc::new(evaluation_options(&plan.settings.time_zone)),
    };
    let mut stream = compiler.node(&plan.root)?;
    let complete = plan.mode == OutputMode::Complete;
    // With what the result is ordered by.
    let schema: SchemaRef = match &plan.order {
        Some(_) => Arc::new(plan.root.schema.as_arrow().clone()),
        None => Arc::clone(&plan.schema),
    };
    if complete {
        // Its state is kept under the id behind the last of the plan's.
        let id = plan.root.id + 1;
        let parts = &mut compiler.parts;
        let (recorder, restored) = (&parts.recorder, &mut parts.restored);
        stream = whole(stream, &parts.context, id, &schema, recorder, restored)?;
        compiler.built(Part::Operator(id));
    }
    let spec = OutputSpec {
        operator: plan.root.id,
        mode: plan.mode,
        key: plan.key.clone(),
        key_is_group: plan.key_is_group,
        direct: complete || plan.root.append_only,
        order: plan.order.clone(),
        schema,
        distribution: compiler.parts.distribution,
        writer: compiler.parts.writer.take(),
    };
    let output = output(stream, &compiler.parts.context, spec)?;
    compiler.built(Part::Sink);
    Ok(Dataflow {
        sources: compiler.sources,
        output,
        parts: compiler.named,
    })
}

struct Compiler<'scope, 'plan> {
    scope: Scope<'scope, Time>,
    plan: &'plan Plan,
    parts: Parts,
    sources: Vec<(usize, SourceHandle)>,
    uses: usize,
    named: BTreeMap<usize, Part>,
    /// The first number of an operator that belongs to no part yet.
    next: usize,
    /// What expressions are computed with.
    options: EvaluationOptions,
}

impl<'scope> Compiler<'scope, '_> {
    /// What was built since this was last called belongs to this part.
    fn built(&mut self, part: Part) {
        let next = self.scope.worker().peek_identifier();
        self.named
            .extend((self.next..next).map(|operator| (operator, part)));
        self.next = next;
    }

    fn node(&mut self, node: &Node) -> Result<DeltaStream<'scope>, OperatorError> {
        let stream = self.build(node)?;
        self.built(match &node.operator {
            Operator::Source { source, .. } => Part::Source(*source),
            _ => Part::Operator(node.id),
        });
        Ok(stream)
    }

    fn build(&mut self, node: &Node) -> Result<DeltaStream<'scope>, OperatorError> {
        // Rows by pane do not say which of them came too late for a window.
        if let Operator::Aggregate(aggregate) = &node.operator
            && self.plan.late_rows.is_none()
            && let Some(paned) = paned(node, aggregate)
        {
            return self.paned(node, paned);
        }
        let mut inputs = node
            .inputs
            .iter()
            .map(|input| self.node(input))
            .collect::<Result<Vec<_>, _>>()?;
        let context = self.parts.context.clone();
        let only = |inputs: &mut Vec<DeltaStream<'scope>>| {
            inputs
                .pop()
                .expect("every operator but a source and constants has an input")
        };
        match &node.operator {
            Operator::Source { source, projection } => Ok(self.source(*source, projection)),
            Operator::FilterProject { filter, project } => {
                let schema = &node.inputs[0].schema;
                let operator = FilterProject::new(
                    filter.as_ref(),
                    project.as_deref(),
                    schema,
                    &node.schema,
                    &self.options,
                )?;
                Ok(operator.render(only(&mut inputs), &context))
            }
            Operator::Unnest { column, keep_empty } => Ok(unnest(
                only(&mut inputs),
                &context,
                *column,
                *keep_empty,
                &node.schema,
            )),
            Operator::Union => Ok(self.scope.concatenate(inputs)),
            Operator::Aggregate(aggregate) => {
                let input = &node.inputs[0];
                let operator = Aggregate::new(
                    node.id,
                    (aggregate, None),
                    &input.schema,
                    !input.append_only,
                    &node.schema,
                    &self.options,
                )?;
                self.aggregate(operator, only(&mut inputs))
            }
            Operator::SessionWindow(sessions) => {
                let input = &node.inputs[0].schema;
                let operator =
                    SessionWindow::new(node.id, sessions, input, &node.schema, &self.options)?;
                Ok(operator.render(
                    only(&mut inputs),
                    &context,
                    &self.parts.recorder,
                    &mut self.parts.restored,
                ))
            }
            Operator::Deduplicate(deduplicate) => {
                let input = &node.inputs[0].schema;
                let operator = Deduplicate::new(node.id, deduplicate, input, &self.options)?;
                let (recorder, restored) = (&self.parts.recorder, &mut self.parts.restored);
                Ok(operator.render(only(&mut inputs), &context, recorder, restored))
            }
            Operator::Rank(rank) => {
                let input = &node.inputs[0];
                let input = (&input.schema, !input.append_only);
                let operator = Rank::new(node.id, rank, input, &node.schema, &self.options)?;
                let (recorder, restored) = (&self.parts.recorder, &mut self.parts.restored);
                Ok(operator.render(only(&mut inputs), &context, recorder, restored))
            }
            Operator::Over(over) => {
                let input = &node.inputs[0].schema;
                let operator = Over::new(node.id, over, input, &node.schema, &self.options)?;
                let (recorder, restored) = (&self.parts.recorder, &mut self.parts.restored);
                Ok(operator.render(only(&mut inputs), &context, recorder, restored))
            }
            Operator::Join(join) => {
                let [left, right] = [0, 1].map(|side| &node.inputs[side].schema);
                let operator =
                    Join::new(node.id, join, [left, right], &node.schema, &self.options)?;
                let right = only(&mut inputs);
                Ok(operator.render(
                    [only(&mut inputs), right],
                    &context,
                    &self.parts.recorder,
                    &mut self.parts.restored,
                ))
            }
            Operator::Nearest(nearest) => {
                let [left, right] = [0, 1].map(|side| &node.inputs[side].schema);
                let operator =
                    Nearest::new(node.id, nearest, [left, right], &node.schema, &self.options)?;
                let right = only(&mut inputs);
                Ok(operator.render(
                    [only(&mut inputs), right],
                    &context,
                    &self.parts.recorder,
                    &mut self.parts.restored,
                ))
            }
            Operator::Values { rows } => {
                let clock = self.clock();
                values(clock, &context, rows, &node.schema, &self.options)
            }
        }
    }

    fn aggregate(
        &mut self,
        operator: Aggregate,
        input: DeltaStream<'scope>,
    ) -> Result<DeltaStream<'scope>, OperatorError> {
        let Parts {
            context,
            recorder,
            restored,
            ..
        } = &mut self.parts;
        operator.render(input, context, recorder, restored)
    }

    /// An aggregate over sliding windows, which takes rows by pane.
    fn paned(
        &mut self,
        node: &Node,
        paned: Paned<'_>,
    ) -> Result<DeltaStream<'scope>, OperatorError> {
        let input = self.node(paned.input)?;
        let rows = FilterProject::new(
            paned.filter,
            Some(&paned.project),
            &paned.input.schema,
            paned.schema,
            &self.options,
        )?;
        let operator = Aggregate::new(
            node.id,
            (&paned.aggregate, Some(paned.place)),
            paned.schema,
            !node.inputs[0].append_only,
            &node.schema,
            &self.options,
        )?;
        let rows = rows.render(input, &self.parts.context);
        self.aggregate(operator, rows)
    }

    fn source(&mut self, index: usize, projection: &[usize]) -> DeltaStream<'scope> {
        let table = &self.plan.sources[index];
        let mut read = projection.to_vec();
        let event_time = table.watermark.as_ref().map(|watermark| watermark.column);
        read.extend(event_time.filter(|column| !projection.contains(column)));
        read.sort_unstable();
        let position = |column: &usize| read.iter().position(|read| read == column);
        let spec = SourceSpec {
            index,
            name: table.name.clone(),
            reader: Arc::clone(&self.parts.readers[index]),
            keep: projection.iter().filter_map(position).collect(),
            event_time: event_time.as_ref().and_then(position),
            read,
            pool: Arc::clone(&self.parts.pools[self.uses]),
            local_workers: self.parts.local_workers,
            reports: self.sources.iter().all(|(used, _)| *used != index),
        };
        self.uses += 1;
        let (stream, handle) = source(self.scope, &self.parts.context, spec);
        self.sources.push((index, handle));
        stream
    }

    /// A stream without rows that advances with the epochs.
    fn clock(&mut self) -> DeltaStream<'scope> {
        let spec = SourceSpec {
            index: CLOCK,
            name: "clock".into(),
            reader: Arc::new(NoReader),
            keep: vec![],
            event_time: None,
            read: vec![],
            pool: Arc::default(),
            local_workers: self.parts.local_workers,
            reports: false,
        };
        let (stream, handle) = source(self.scope, &self.parts.context, spec);
        self.sources.push((CLOCK, handle));
        stream
    }
}

/// The reader of a clock, which never has a split.
#[derive(Debug)]
struct NoReader;

impl SourceReader for NoReader {
    fn open(
        &self,
        split: &tidemark_connectors::Split,
        _: &[usize],
    ) -> tidemark_connectors::Result<Box<dyn tidemark_connectors::SplitReader>> {
        Err(tidemark_connectors::ConnectorError::Inconsistent(format!(
            "constants have nothing to read, and were given a split of {}",
            split.partition
        )))
    }
}
