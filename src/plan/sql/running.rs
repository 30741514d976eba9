//! Settings of a query while it runs: how much it takes in, and how often it tries again.

use std::time::Duration;

use super::options::{Outcome, bad, boolean, duration};
use crate::plan::{Backpressure, Intake, Retry};

/// Up to how many bytes a static table is given to every worker whole, as in Spark.
const BROADCAST: u64 = 10 << 20;

/// Whether the value of a setting makes sense; those of others do.
pub(super) fn check(name: &str, key: &str, value: &str) -> Outcome<()> {
    match name {
        "maxBytesPerTrigger" => drop(bytes(key, value)?),
        "autoBroadcastJoinThreshold" => drop(threshold(key, value)?),
        "maxRetries" => drop(retries(key, value)?),
        "retryInterval" | "stopTimeout" => drop(duration(key, value)?),
        "backpressure.enabled" => drop(boolean(key, value)?),
        "backpressure.initialRate" | "backpressure.pid.minRate" => drop(rate(key, value)?),
        "backpressure.pid.proportional"
        | "backpressure.pid.integral"
        | "backpressure.pid.derived" => drop(gain(key, value)?),
        _ => {}
    }
    Ok(())
}

/// How much an epoch takes in. `get` gives a setting.
pub(super) fn intake<'a>(get: &impl Fn(&str) -> Option<&'a str>) -> Outcome<Intake> {
    let number = |name: &str, or: f64| get(name).map_or(Ok(or), |value| gain(name, value));
    let enabled = "backpressure.enabled";
    let enabled = get(enabled).map_or(Ok(false), |value| boolean(enabled, value))?;
    let backpressure = Backpressure {
        initial_rate: get("backpressure.initialRate")
            .map(|value| rate("backpressure.initialRate", value))
            .transpose()?,
        proportional: number("backpressure.pid.proportional", 1.0)?,
        integral: number("backpressure.pid.integral", 0.2)?,
        derived: number("backpressure.pid.derived", 0.0)?,
        least: number("backpressure.pid.minRate", 100.0)?,
    };
    Ok(Intake {
        max_bytes: get("maxBytesPerTrigger")
            .map(|value| bytes("maxBytesPerTrigger", value))
            .transpose()?,
        backpressure: enabled.then_some(backpressure),
    })
}

/// How often the query is started again after a failure.
pub(super) fn retry<'a>(get: &impl Fn(&str) -> Option<&'a str>) -> Outcome<Retry> {
    let most = get("maxRetries").map_or(Ok(0), |value| retries("maxRetries", value))?;
    let interval = get("retryInterval").map(|value| duration("retryInterval", value));
    Ok(Retry {
        most,
        interval: interval.transpose()?.unwrap_or(Duration::from_secs(10)),
    })
}

/// How long a query that is to end waits for a sink or source that does not answer.
pub(super) fn stop_timeout<'a>(get: &impl Fn(&str) -> Option<&'a str>) -> Outcome<Duration> {
    let timeout = get("stopTimeout").map(|value| duration("stopTimeout", value));
    Ok(timeout.transpose()?.unwrap_or(Duration::from_secs(10)))
}

/// Up to how many bytes a static table is given to every worker whole; `None`: none is.
pub(super) fn broadcast<'a>(get: &impl Fn(&str) -> Option<&'a str>) -> Outcome<Option<u64>> {
    const NAME: &str = "autoBroadcastJoinThreshold";
    get(NAME).map_or(Ok(Some(BROADCAST)), |value| threshold(NAME, value))
}

fn threshold(key: &str, value: &str) -> Outcome<Option<u64>> {
    if value.trim() == "-1" {
        return Ok(None);
    }
    let bytes = tidemark_connectors::options::parse_bytes(value);
    let bytes = bytes.ok_or_else(|| {
        bad(
            key,
            value,
            "a number of bytes such as '10MB', or -1: no table is given to every worker",
        )
    });
    bytes.map(Some)
}

fn bytes(key: &str, value: &str) -> Outcome<u64> {
    let bytes = tidemark_connectors::options::parse_bytes(value).filter(|bytes| *bytes > 0);
    bytes.ok_or_else(|| bad(key, value, "a number of bytes such as '64m' or '1g'"))
}

fn retries(key: &str, value: &str) -> Outcome<u32> {
    let number = value.trim().parse();
    number.map_err(|_| bad(key, value, "a whole number, 0 for none"))
}

fn rate(key: &str, value: &str) -> Outcome<f64> {
    match value.trim().parse::<f64>() {
        Ok(rate) if rate.is_finite() && rate > 0.0 => Ok(rate),
        _ => Err(bad(key, value, "a number of rows a second above 0")),
    }
}

fn gain(key: &str, value: &str) -> Outcome<f64> {
    match value.trim().parse::<f64>() {
        Ok(gain) if gain.is_finite() && gain >= 0.0 => Ok(gain),
        _ => Err(bad(key, value, "a number of at least 0")),
    }
}
