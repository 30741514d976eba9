//! The calls `window(..)` and `session_window(..)`: what their arguments say, and what they become.

use datafusion::sql::sqlparser::ast::{Expr, Function, UnaryOperator, Value, ValueWithSpan};
use datafusion::sql::sqlparser::tokenizer::Span;

use super::ast::{arguments, call, function_name, name_span, number, string};
use super::windows::Failure;
use crate::plan::error::PlanErrorKind;
use crate::plan::functions::interval::parse_micros;
use crate::plan::functions::session::SESSION_WINDOW;
use crate::plan::text::duration;

/// Which of the two: each has a name for its result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    Window,
    Session,
}

impl Family {
    pub(super) const ALL: [Self; 2] = [Self::Window, Self::Session];

    /// The function's name, and that of its result.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Window => "window",
            Self::Session => "session_window",
        }
    }
}

/// One call.
#[derive(Clone, Debug)]
pub(super) struct WindowCall {
    pub(super) ts: Expr,
    pub(super) span: Span,
    shape: Shape,
}

#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "a handful a query")]
enum Shape {
    /// In microseconds.
    Fixed { size: i64, slide: i64, start: i64 },
    /// The gap, as text where it is a constant.
    Session(Expr),
}

impl WindowCall {
    /// The call that `function` is, if it is one.
    pub(super) fn parse(function: &Function) -> Option<Result<Self, Failure>> {
        let name = function_name(function);
        let family = Family::ALL
            .into_iter()
            .find(|family| family.name() == name)?;
        if function.over.is_some() {
            return None;
        }
        Some(match family {
            Family::Window => fixed(function),
            Family::Session => session(function),
        })
    }

    pub(super) fn family(&self) -> Family {
        match self.shape {
            Shape::Fixed { .. } => Family::Window,
            Shape::Session(_) => Family::Session,
        }
    }

    pub(super) fn same(&self, other: &Self) -> bool {
        (&self.ts, &self.shape) == (&other.ts, &other.shape)
    }

    /// Whether a row can be in several of its windows.
    pub(super) fn sliding(&self) -> bool {
        matches!(self.shape, Shape::Fixed { size, slide, .. } if slide != size)
    }

    /// The condition for a row to be in any window.
    pub(super) fn counted(&self) -> Expr {
        let known = match &self.shape {
            Shape::Session(gap) if !matches!(gap, Expr::Value(_)) => self.expr(),
            _ => self.ts.clone(),
        };
        Expr::IsNotNull(Box::new(Expr::Nested(Box::new(known))))
    }

    /// The expression that gives the window, or the list of windows to unnest.
    pub(super) fn expr(&self) -> Expr {
        let span = self.span;
        let lengths = |all: &[i64]| all.iter().map(|n| number(*n, span)).collect::<Vec<_>>();
        let mut args = vec![self.ts.clone()];
        match &self.shape {
            Shape::Session(gap) => {
                args.push(gap.clone());
                call(SESSION_WINDOW, args, span)
            }
            Shape::Fixed { size, slide, start } if slide != size => {
                args.extend(lengths(&[*size, *slide, *start]));
                call("unnest", vec![call("__sliding_windows", args, span)], span)
            }
            Shape::Fixed { size, start, .. } => {
                args.extend(lengths(&[*size, *start]));
                call("__tumbling_window", args, span)
            }
        }
    }
}

/// Whether a function is what [`WindowCall::expr`] made.
pub(super) fn is_window_function(function: &Function) -> bool {
    matches!(
        function_name(function).as_str(),
        "__tumbling_window" | "unnest" | SESSION_WINDOW
    )
}

fn fixed(function: &Function) -> Result<WindowCall, Failure> {
    let span = name_span(function);
    let bad = |reason: &str| bad(Family::Window, span, reason);
    let (ts, lengths) = match &arguments(function)[..] {
        [ts, lengths @ ..] if (1..=3).contains(&lengths.len()) => ((*ts).clone(), lengths.to_vec()),
        _ => {
            return Err(bad(
                "it takes a timestamp, a size and, if you like, a slide and a start: window(ts, '10 minutes', '5 minutes', '1 minute')",
            ));
        }
    };
    let micros: Vec<i64> = lengths
        .iter()
        .map(|expr| {
            constant(expr, span)?.ok_or_else(|| {
                bad("its lengths must be constants, such as '5 minutes' or INTERVAL '5' MINUTE")
            })
        })
        .collect::<Result<_, _>>()?;
    let size = micros[0];
    let slide = micros.get(1).copied().unwrap_or(size);
    let start = micros.get(2).copied().unwrap_or(0);
    if size <= 0 || slide <= 0 {
        return Err(bad("the size and the slide must be greater than zero"));
    }
    if slide > size {
        return Err(bad(
            "the slide must not be greater than the size: rows between windows would be lost",
        ));
    }
    Ok(WindowCall {
        ts,
        span,
        shape: Shape::Fixed { size, slide, start },
    })
}

fn session(function: &Function) -> Result<WindowCall, Failure> {
    let span = name_span(function);
    let bad = |reason: &str| bad(Family::Session, span, reason);
    let [ts, gap] = arguments(function)[..] else {
        return Err(bad(
            "it takes a timestamp and a gap: session_window(ts, '5 minutes')",
        ));
    };
    let gap = match constant(gap, span)? {
        Some(micros) if micros <= 0 => return Err(bad("the gap must be greater than zero")),
        Some(micros) => gap_text(micros, span),
        None => gap.clone(),
    };
    Ok(WindowCall {
        ts: ts.clone(),
        span,
        shape: Shape::Session(gap),
    })
}

/// A constant gap as the function of sessions takes it.
fn gap_text(micros: i64, span: Span) -> Expr {
    string(&duration(micros), span)
}

/// The length that a constant argument says, in microseconds; `None` for what is no constant.
fn constant(expr: &Expr, call: Span) -> Result<Option<i64>, Failure> {
    let text = match expr {
        Expr::Value(ValueWithSpan {
            value: Value::SingleQuotedString(text),
            ..
        }) => text.clone(),
        Expr::Interval(interval) => {
            let unit = interval
                .leading_field
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default();
            let (sign, value) = match &*interval.value {
                Expr::UnaryOp {
                    op: UnaryOperator::Minus,
                    expr,
                } => ("-", &**expr),
                other => ("", other),
            };
            match value {
                Expr::Value(ValueWithSpan {
                    value: Value::SingleQuotedString(v) | Value::Number(v, _),
                    ..
                }) => {
                    format!("{sign}{v} {unit}")
                }
                other => other.to_string(),
            }
        }
        Expr::UnaryOp {
            op: UnaryOperator::Minus,
            expr,
        } => return Ok(constant(expr, call)?.map(|micros| -micros)),
        Expr::Nested(inner) => return constant(inner, call),
        _ => return Ok(None),
    };
    parse_micros(&text).map(Some).map_err(|why| {
        Box::new((
            call,
            PlanErrorKind::BadInterval {
                text: text.trim().into(),
                why,
            },
        ))
    })
}

pub(super) fn bad(family: Family, span: Span, reason: &str) -> Failure {
    Box::new((
        span,
        PlanErrorKind::BadWindow {
            call: family.name().into(),
            reason: reason.into(),
        },
    ))
}
