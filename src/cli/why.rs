//! `tidemark why FILE.sql|CHECKPOINT|URL`.

use std::path::Path;
use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use crate::checkpoint::{Checkpoint, CheckpointError};
use crate::cli::checkpoint::failure;
use crate::cli::{Failure, WhyArgs, print, run, session};
use crate::plan::Plan;
use crate::plan::catalog::Statement;
use crate::runtime::why;

/// A server that has not answered by then does not.
const PATIENCE: Duration = Duration::from_secs(10);

/// Prints what a query waits for, or each query of a script or of a server.
pub(super) fn why(args: &WhyArgs) -> Result<(), Failure> {
    let target = &args.target;
    let answers = if target.starts_with("http://") || target.starts_with("https://") {
        of_server(target)?
    } else if Path::new(target).is_dir() {
        let inspection = Checkpoint::inspect(target).map_err(failure)?;
        let said = why::of_checkpoint(&inspection, None);
        vec![said.map_err(|error| Failure::usage(error.to_string()))?]
    } else {
        of_script(args)?
    };
    print(&answers.join("\n"))
}

fn of_script(args: &WhyArgs) -> Result<Vec<String>, Failure> {
    let text = run::read(Path::new(&args.target))?;
    let session = session(1, None, (None, None), &args.settings)?;
    let script = session.parse(&text, &args.target)?;
    let mut answers = vec![];
    for statement in &script.statements {
        if let Statement::Query(query) = statement {
            answers.push(of_plan(&*session.plan(query)?)?);
        }
    }
    if answers.is_empty() {
        return Err(Failure::usage(format!(
            "{} holds no query to ask about",
            args.target
        )));
    }
    Ok(answers)
}

/// From its checkpoint, where it has one already.
fn of_plan(plan: &Plan) -> Result<String, Failure> {
    let Some(location) = &plan.settings.checkpoint_location else {
        return Ok(why::of_plan(plan));
    };
    match Checkpoint::inspect(location) {
        Ok(inspection) => why::of_checkpoint(&inspection, Some(plan))
            .map_err(|error| Failure::usage(format!("query '{}': {error}", plan.name))),
        Err(CheckpointError::NoCheckpoint { .. }) => Ok(why::of_plan(plan)),
        Err(error) => Err(failure(error)),
    }
}

fn of_server(url: &str) -> Result<Vec<String>, Failure> {
    let url = url.trim_end_matches('/');
    if let Some((_, query)) = url.split_once("/queries/") {
        let asked = query.ends_with("/why");
        return Ok(vec![get(&if asked {
            url.into()
        } else {
            format!("{url}/why")
        })?]);
    }
    let base = url.strip_suffix("/queries").unwrap_or(url);
    let listed = get(&format!("{base}/queries"))?;
    let queries: Vec<Value> = serde_json::from_str(&listed).map_err(|_| {
        Failure::query(format!(
            "{base}/queries lists no queries; give the address that `tidemark run --http` has said"
        ))
    })?;
    let names = queries.iter().filter_map(|query| query["name"].as_str());
    let answers = names.map(|name| {
        let name = utf8_percent_encode(name, NON_ALPHANUMERIC);
        get(&format!("{base}/queries/{name}/why"))
    });
    answers.collect()
}

fn get(url: &str) -> Result<String, Failure> {
    let agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .timeout_global(Some(PATIENCE))
        .build()
        .new_agent();
    let failed = |error: ureq::Error| {
        Failure::query(format!(
            "cannot ask {url}: {error}; give the address that `tidemark run --http` has said"
        ))
    };
    let mut answer = agent.get(url).call().map_err(failed)?;
    let body = answer.body_mut().read_to_string().map_err(failed)?;
    if answer.status().is_success() {
        Ok(body)
    } else {
        Err(Failure::query(format!("{url}: {}", body.trim_end())))
    }
}
