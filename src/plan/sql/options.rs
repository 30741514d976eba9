//! What a table's options and `SET` say to the engine, taken apart from what is the connector's.

use std::collections::BTreeMap;
use std::time::Duration;

use tidemark_connectors::options::nearest;
use tidemark_connectors::sources::REFRESHED;
use tidemark_connectors::sources::snapshots::Refresh;
use tidemark_connectors::{Options, OutputMode};

use crate::plan::catalog::{EngineOptions, LateRows, OnError};
use crate::plan::error::PlanErrorKind;
use crate::plan::functions::interval::parse_micros;
use crate::plan::{QuerySettings, Trigger, WatermarkPolicy};

use super::running;

/// Options of a table that the engine reads, in lower case, with how they are written.
const ENGINE_OPTIONS: &[(&str, &str)] = &[
    ("connector", "connector"),
    ("outputmode", "outputMode"),
    ("trigger", "trigger"),
    ("checkpointlocation", "checkpointLocation"),
    ("queryname", "queryName"),
    ("watermark.idletimeout", "idleTimeout"),
    ("idletimeout", "idleTimeout"),
    ("onerror", "onError"),
    ("deadletter", "deadLetter"),
    ("laterows", "lateRows"),
    ("allowedlateness", "allowedLateness"),
    ("streaming", "streaming"),
    ("refreshinterval", "refreshInterval"),
    ("maxstaleness", "maxStaleness"),
    ("autobroadcastjointhreshold", "autoBroadcastJoinThreshold"),
    ("maxretries", "maxRetries"),
    ("retryinterval", "retryInterval"),
    ("stoptimeout", "stopTimeout"),
    ("backpressure.enabled", "backpressure.enabled"),
    ("backpressure.initialrate", "backpressure.initialRate"),
    (
        "backpressure.pid.proportional",
        "backpressure.pid.proportional",
    ),
    ("backpressure.pid.integral", "backpressure.pid.integral"),
    ("backpressure.pid.derived", "backpressure.pid.derived"),
    ("backpressure.pid.minrate", "backpressure.pid.minRate"),
];

/// What of a source an epoch reads at most: all of a static table is there from the first epoch on.
const LIMITS: [&str; 6] = [
    "maxFilesPerTrigger",
    "maxBytesPerTrigger",
    "maxOffsetsPerTrigger",
    "minOffsetsPerTrigger",
    "maxTriggerDelay",
    "maxRatePerPartition",
];

/// Settings of the engine, without the prefix `spark.sql.`, `spark.sql.streaming.` or `spark.streaming.`.
const SETTINGS: &[&str] = &[
    "outputMode",
    "trigger",
    "checkpointLocation",
    "idleTimeout",
    "onError",
    "deadLetter",
    "lateRows",
    "allowedLateness",
    "minBatchesToRetain",
    "multipleWatermarkPolicy",
    "session.timeZone",
    "maxBytesPerTrigger",
    "autoBroadcastJoinThreshold",
    "maxRetries",
    "retryInterval",
    "stopTimeout",
    "backpressure.enabled",
    "backpressure.initialRate",
    "backpressure.pid.proportional",
    "backpressure.pid.integral",
    "backpressure.pid.derived",
    "backpressure.pid.minRate",
];

/// What `SET` has set so far.
#[derive(Clone, Debug, Default)]
pub(super) struct Settings {
    /// By name in lower case, without prefix.
    values: BTreeMap<String, String>,
    /// Names that were set from outside: a script does not change them.
    pinned: Vec<String>,
}

pub(super) type Outcome<T> = Result<T, PlanErrorKind>;

/// `session.timeZone` where nothing sets it.
pub const DEFAULT_TIME_ZONE: &str = "UTC";

impl Settings {
    /// Takes a setting, or says what is wrong with it.
    pub(super) fn set(&mut self, key: &str, value: &str) -> Outcome<()> {
        let value = environment(key, value)?;
        let short = short_name(key);
        let known = SETTINGS
            .iter()
            .find(|name| name.eq_ignore_ascii_case(short));
        let Some(name) = known else {
            // Spark has hundreds of settings that tune Spark; a script may carry them along.
            if key.to_ascii_lowercase().starts_with("spark.") {
                return Ok(());
            }
            let nearest = nearest(short, SETTINGS.iter().copied());
            return Err(PlanErrorKind::UnknownSetting {
                key: key.into(),
                nearest,
            });
        };
        match *name {
            "outputMode" => drop(output_mode(key, &value)?),
            "trigger" => drop(trigger(key, &value)?),
            "idleTimeout" => drop(duration(key, &value)?),
            "onError" => drop(on_error(key, &value)?),
            "lateRows" => drop(late_rows(key, &value)?),
            "allowedLateness" => drop(duration(key, &value)?),
            "minBatchesToRetain" => drop(batches(key, &value)?),
            "multipleWatermarkPolicy" => drop(policy(key, &value)?),
            "session.timeZone" => drop(time_zone(key, &value)?),
            name => running::check(name, key, &value)?,
        }
        let name = name.to_ascii_lowercase();
        if !self.pinned.contains(&name) {
            self.values.insert(name, value);
        }
        Ok(())
    }

    /// Takes a setting from outside, which holds whatever the script says.
    pub(super) fn pin(&mut self, key: &str, value: &str) -> Outcome<()> {
        self.set(key, value)?;
        self.pinned.push(short_name(key).to_ascii_lowercase());
        Ok(())
    }

    /// Every setting of the engine with its value, where it has one.
    pub(super) fn all(&self) -> impl Iterator<Item = (&'static str, Option<&str>)> {
        SETTINGS.iter().map(|name| (*name, self.value_of(name)))
    }

    /// A setting's name as it is written and its value; `None` for one of Spark's without a
    /// meaning here.
    pub(super) fn look_up(&self, key: &str) -> Outcome<Option<(&'static str, Option<&str>)>> {
        let short = short_name(key);
        let known = SETTINGS
            .iter()
            .find(|name| name.eq_ignore_ascii_case(short));
        match known {
            Some(name) => Ok(Some((name, self.value_of(name)))),
            None if key.to_ascii_lowercase().starts_with("spark.") => Ok(None),
            None => Err(PlanErrorKind::UnknownSetting {
                key: key.into(),
                nearest: nearest(short, SETTINGS.iter().copied()),
            }),
        }
    }

    /// What was set, or what holds without.
    fn value_of(&self, name: &str) -> Option<&str> {
        self.get(name).or(match name {
            "minBatchesToRetain" => Some("100"),
            "multipleWatermarkPolicy" => Some("min"),
            "onError" => Some("fail"),
            "lateRows" => Some("drop"),
            "autoBroadcastJoinThreshold" => Some("10MB"),
            "session.timeZone" => Some(self.time_zone()),
            _ => None,
        })
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.values
            .get(&name.to_ascii_lowercase())
            .map(String::as_str)
    }

    /// `spark.sql.session.timeZone`.
    pub(super) fn time_zone(&self) -> &str {
        self.get("session.timeZone").unwrap_or(DEFAULT_TIME_ZONE)
    }

    /// `idleTimeout` where a table does not say its own.
    pub(super) fn idle_timeout(&self) -> Outcome<Option<Duration>> {
        self.get("idleTimeout")
            .map(|v| duration("idleTimeout", v))
            .transpose()
    }

    /// The name of the dead-letter table where a sink does not say its own.
    pub(super) fn dead_letter(&self) -> Option<&str> {
        self.get("deadLetter")
    }

    /// How rows that fail are treated where a sink does not say.
    pub(super) fn on_error(&self) -> Outcome<OnError> {
        self.get("onError")
            .map_or(Ok(OnError::Fail), |v| on_error("onError", v))
    }

    /// What becomes of late rows where a sink does not say.
    pub(super) fn late_rows(&self) -> Outcome<LateRows> {
        self.get("lateRows")
            .map_or(Ok(LateRows::Drop), |v| late_rows("lateRows", v))
    }

    /// How late rows may be where a sink does not say.
    fn allowed_lateness(&self) -> Outcome<Option<Duration>> {
        self.get("allowedLateness")
            .map(|v| duration("allowedLateness", v))
            .transpose()
    }

    /// `outputMode` where a sink does not say.
    pub(super) fn mode(&self) -> Outcome<Option<OutputMode>> {
        self.get("outputMode")
            .map(|v| output_mode("outputMode", v))
            .transpose()
    }

    /// `trigger` where a sink does not say.
    pub(super) fn trigger(&self) -> Outcome<Trigger> {
        self.get("trigger")
            .map_or(Ok(Trigger::ProcessingTime(Duration::ZERO)), |v| {
                trigger("trigger", v)
            })
    }

    /// The settings of a query that writes into `table`.
    pub(super) fn query(&self, engine: &EngineOptions, table: &str) -> Outcome<QuerySettings> {
        let own = &engine.settings;
        let running = |name: &str| {
            let own = own.get(&name.to_ascii_lowercase()).map(String::as_str);
            own.or_else(|| self.get(name))
        };
        let checkpoint_location = match &engine.checkpoint_location {
            Some(own) => Some(own.clone()),
            None => self
                .get("checkpointLocation")
                .map(|dir| format!("{}/{table}", dir.trim_end_matches('/'))),
        };
        Ok(QuerySettings {
            checkpoint_location,
            min_batches_to_retain: (self.get("minBatchesToRetain"))
                .map_or(Ok(100), |v| batches("minBatchesToRetain", v))?,
            watermark_policy: (self.get("multipleWatermarkPolicy"))
                .map_or(Ok(WatermarkPolicy::Min), |v| {
                    policy("multipleWatermarkPolicy", v)
                })?,
            allowed_lateness: match engine.allowed_lateness {
                Some(own) => own,
                None => self.allowed_lateness()?.unwrap_or_default(),
            },
            time_zone: self.time_zone().to_owned(),
            intake: running::intake(&running)?,
            retry: running::retry(&running)?,
            stop_timeout: running::stop_timeout(&running)?,
            broadcast_threshold: running::broadcast(&running)?,
        })
    }
}

fn short_name(key: &str) -> &str {
    let strip = |prefix: &str| {
        let head = key.get(..prefix.len())?;
        head.eq_ignore_ascii_case(prefix)
            .then(|| &key[prefix.len()..])
    };
    strip("spark.sql.streaming.")
        .or_else(|| strip("spark.streaming."))
        .or_else(|| strip("spark.sql."))
        .or_else(|| strip("tidemark."))
        .unwrap_or(key)
}

/// A table's options, sorted by whom they are for.
#[derive(Clone, Debug, Default)]
pub(super) struct Sorted {
    pub(super) connector: Option<String>,
    pub(super) engine: EngineOptions,
    pub(super) idle_timeout: Option<Duration>,
    pub(super) streaming: bool,
    /// `refreshInterval` and `maxStaleness` of a static table.
    pub(super) refresh: Option<Refresh>,
    refresh_interval: Option<Duration>,
    max_staleness: Option<Duration>,
    /// What is left for the connector.
    pub(super) options: Options,
}

/// Sorts the options of a table. The error says which option it is about.
pub(super) fn sort(pairs: &[(String, String)]) -> Result<Sorted, (usize, PlanErrorKind)> {
    let mut sorted = Sorted {
        streaming: true,
        ..Sorted::default()
    };
    for (index, (key, raw)) in pairs.iter().enumerate() {
        take(&mut sorted, key, raw).map_err(|kind| {
            // What the environment holds is nobody else's business: the text stays as written.
            let kind = match kind {
                PlanErrorKind::BadValue { key, expected, .. } => bad(&key, raw, expected),
                other => other,
            };
            (index, kind)
        })?;
    }
    if !sorted.streaming {
        let limit = (pairs.iter())
            .position(|(key, _)| LIMITS.iter().any(|limit| limit.eq_ignore_ascii_case(key)));
        if let Some(index) = limit {
            let (key, value) = &pairs[index];
            let expected = "no limit: a static table is read as a whole, at the start";
            return Err((index, bad(key, value, expected)));
        }
    }
    sorted.refresh = refresh(&sorted, pairs)?;
    if sorted.engine.dead_letter.is_some() && sorted.engine.on_error == OnError::Fail {
        sorted.engine.on_error = OnError::DeadLetter;
    }
    Ok(sorted)
}

/// When a static table is read again. The error says which option it is about.
fn refresh(
    sorted: &Sorted,
    pairs: &[(String, String)],
) -> Result<Option<Refresh>, (usize, PlanErrorKind)> {
    let refused = |option: &str, expected: &'static str| {
        let index = (pairs.iter()).position(|(key, _)| key.eq_ignore_ascii_case(option));
        let index = index.unwrap_or_default();
        let (key, value) = &pairs[index];
        Err((index, bad(key, value, expected)))
    };
    let Some(interval) = sorted.refresh_interval else {
        return match sorted.max_staleness {
            Some(_) => refused("maxStaleness", "a 'refreshInterval' beside it"),
            None => Ok(None),
        };
    };
    let connector = sorted.connector.as_deref().unwrap_or_default();
    if sorted.streaming {
        let expected =
            "a static table ('streaming' = 'false'): a stream brings what is new by itself";
        return refused("refreshInterval", expected);
    }
    if !(REFRESHED.iter()).any(|name| name.eq_ignore_ascii_case(connector)) {
        let expected = "a table of the connector file, sqlite or postgres: others are read once";
        return refused("refreshInterval", expected);
    }
    if sorted.options.get("cleanSource").is_some() {
        let expected = "no refresh: with 'cleanSource' there is nothing to read again";
        return refused("refreshInterval", expected);
    }
    Ok(Some(Refresh {
        interval,
        max_staleness: sorted.max_staleness,
    }))
}

fn take(sorted: &mut Sorted, key: &str, raw: &str) -> Outcome<()> {
    let value = environment(key, raw)?;
    let lower = key.to_ascii_lowercase();
    let known = ENGINE_OPTIONS
        .iter()
        .find(|(name, _)| *name == lower)
        .map(|(_, as_written)| *as_written);
    let engine = &mut sorted.engine;
    match known {
        Some("connector") => sorted.connector = Some(value),
        Some("outputMode") => engine.mode = Some(output_mode(key, &value)?),
        Some("trigger") => engine.trigger = Some(trigger(key, &value)?),
        Some("checkpointLocation") => engine.checkpoint_location = Some(value),
        Some("queryName") => {
            // The memory sink names its table by it.
            engine.query_name = Some(value.clone());
            sorted.options.set(key, value);
        }
        Some("idleTimeout") => sorted.idle_timeout = Some(duration(key, &value)?),
        Some("onError") => engine.on_error = on_error(key, &value)?,
        Some("deadLetter") => engine.dead_letter = Some(value),
        Some("lateRows") => engine.late_rows = Some(late_rows(key, &value)?),
        Some("allowedLateness") => engine.allowed_lateness = Some(duration(key, &value)?),
        Some("streaming") => sorted.streaming = boolean(key, &value)?,
        Some("refreshInterval") => {
            let interval = duration(key, &value)?;
            if interval.is_zero() {
                return Err(bad(key, &value, "a length of time such as '10 seconds'"));
            }
            sorted.refresh_interval = Some(interval);
        }
        Some("maxStaleness") => sorted.max_staleness = Some(duration(key, &value)?),
        Some(name) => {
            running::check(name, key, &value)?;
            engine.settings.insert(name.to_ascii_lowercase(), value);
        }
        None => sorted.options.set(key, value),
    }
    Ok(())
}

/// Fills in `${ENV:NAME}` and `${FILE:PATH}`: the variable, and what is in the file without the line
/// break at its end.
fn environment(key: &str, value: &str) -> Outcome<String> {
    let mut text = String::new();
    let mut rest = value;
    while let Some(start) = rest.find("${") {
        let inner = &rest[start + 2..];
        let named = inner.find('}').and_then(|end| {
            let (kind, name) = inner[..end].split_once(':')?;
            Some((kind, name, &inner[end + 1..]))
        });
        text.push_str(&rest[..start]);
        rest = match named {
            Some(("ENV", name, after)) => {
                let content = std::env::var(name).map_err(|_| PlanErrorKind::MissingVariable {
                    key: key.into(),
                    variable: name.into(),
                })?;
                text.push_str(&content);
                after
            }
            Some(("FILE", path, after)) => {
                let content = std::fs::read_to_string(path).map_err(|error| {
                    PlanErrorKind::UnreadableFile {
                        key: key.into(),
                        path: path.into(),
                        reason: error.to_string(),
                    }
                })?;
                text.push_str(content.trim_end_matches(['\r', '\n']));
                after
            }
            _ => {
                text.push_str("${");
                inner
            }
        };
    }
    text.push_str(rest);
    Ok(text)
}

pub(super) fn bad(key: &str, value: &str, expected: &'static str) -> PlanErrorKind {
    PlanErrorKind::BadValue {
        key: key.into(),
        value: value.into(),
        expected,
    }
}

pub(super) fn duration(key: &str, value: &str) -> Outcome<Duration> {
    match parse_micros(value) {
        Ok(micros) if micros >= 0 => Ok(Duration::from_micros(micros as u64)),
        _ => Err(bad(
            key,
            value,
            "a length of time such as '10 seconds' or '500 ms'",
        )),
    }
}

pub(super) fn boolean(key: &str, value: &str) -> Outcome<bool> {
    match value.trim().to_ascii_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(bad(key, value, "true or false")),
    }
}

fn output_mode(key: &str, value: &str) -> Outcome<OutputMode> {
    value
        .trim()
        .parse()
        .map_err(|_| bad(key, value, "append, update, complete or changelog"))
}

fn batches(key: &str, value: &str) -> Outcome<u64> {
    match value.trim().parse() {
        Ok(number) if number > 0 => Ok(number),
        _ => Err(bad(key, value, "a whole number of at least 1")),
    }
}

fn policy(key: &str, value: &str) -> Outcome<WatermarkPolicy> {
    match value.trim().to_ascii_lowercase().as_str() {
        "min" => Ok(WatermarkPolicy::Min),
        "max" => Ok(WatermarkPolicy::Max),
        _ => Err(bad(key, value, "min or max")),
    }
}

fn on_error(key: &str, value: &str) -> Outcome<OnError> {
    match value.trim().to_ascii_lowercase().as_str() {
        "fail" => Ok(OnError::Fail),
        "deadletter" => Ok(OnError::DeadLetter),
        _ => Err(bad(key, value, "fail or deadLetter")),
    }
}

fn late_rows(key: &str, value: &str) -> Outcome<LateRows> {
    let value = value.trim();
    let (word, rest) = value.split_once(' ').unwrap_or((value, ""));
    let table = rest.trim();
    match (word.to_ascii_lowercase().as_str(), table) {
        ("drop", "") => Ok(LateRows::Drop),
        ("correct", "") => Ok(LateRows::Correct),
        ("table", table) if !table.is_empty() => Ok(LateRows::Table(table.to_owned())),
        _ => Err(bad(key, value, "drop, correct, or table and its name")),
    }
}

fn time_zone(key: &str, value: &str) -> Outcome<()> {
    let known = value.parse::<arrow::array::timezone::Tz>().is_ok();
    if known {
        Ok(())
    } else {
        Err(bad(
            key,
            value,
            "a time zone such as 'UTC', 'Europe/Paris' or '+02:00'",
        ))
    }
}

/// `30 seconds`, `processing-time 30 seconds`, `available-now`, `once`, `continuous 1 second`.
pub(super) fn trigger(key: &str, value: &str) -> Outcome<Trigger> {
    const EXPECTED: &str = "'30 seconds', 'processing-time 30 seconds', 'available-now', 'once' or 'continuous 1 second'";
    let text = value.trim().to_ascii_lowercase().replace(['_', '-'], " ");
    let interval = |rest: &str| match parse_micros(rest) {
        Ok(micros) if micros >= 0 => Ok(Duration::from_micros(micros as u64)),
        _ => Err(bad(key, value, EXPECTED)),
    };
    match text.as_str() {
        "once" => return Ok(Trigger::Once),
        "available now" | "availablenow" => return Ok(Trigger::AvailableNow),
        "default" | "" => return Ok(Trigger::ProcessingTime(Duration::ZERO)),
        _ => {}
    }
    if let Some(rest) = text.strip_prefix("continuous") {
        return Ok(Trigger::Continuous(interval(rest)?));
    }
    let rest = ["processing time", "processingtime"]
        .iter()
        .find_map(|p| text.strip_prefix(p));
    Ok(Trigger::ProcessingTime(interval(rest.unwrap_or(&text))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn triggers_as_they_are_written() {
        let second = Duration::from_secs(1);
        let cases = [
            ("30 seconds", Trigger::ProcessingTime(30 * second)),
            (
                "processing-time 30 seconds",
                Trigger::ProcessingTime(30 * second),
            ),
            ("0 seconds", Trigger::ProcessingTime(Duration::ZERO)),
            ("available-now", Trigger::AvailableNow),
            ("availableNow", Trigger::AvailableNow),
            ("once", Trigger::Once),
            ("continuous 1 second", Trigger::Continuous(second)),
        ];
        for (text, expected) in cases {
            assert_eq!(trigger("trigger", text).ok(), Some(expected), "{text}");
        }
        assert!(trigger("trigger", "sometimes").is_err());
    }

    #[test]
    fn the_engine_takes_its_options_and_leaves_the_rest() {
        let pairs: Vec<(String, String)> = [
            ("connector", "file"),
            ("OUTPUTMODE", "Append"),
            ("path", "in"),
            ("watermark.idleTimeout", "5 s"),
            ("streaming", "false"),
        ]
        .map(|(k, v)| (k.to_owned(), v.to_owned()))
        .to_vec();
        let sorted = sort(&pairs).expect("all options are fine");
        assert_eq!(sorted.connector.as_deref(), Some("file"));
        assert_eq!(sorted.engine.mode, Some(OutputMode::Append));
        assert_eq!(sorted.idle_timeout, Some(Duration::from_secs(5)));
        assert!(!sorted.streaming);
        assert_eq!(sorted.options.iter().collect::<Vec<_>>(), [("path", "in")]);
        let mut limited = pairs;
        limited.push(("maxfilespertrigger".to_owned(), "1".to_owned()));
        assert!(matches!(
            sort(&limited),
            Err((5, PlanErrorKind::BadValue { .. }))
        ));
    }

    #[test]
    fn a_misspelt_setting_names_the_nearest_and_sparks_own_pass() {
        let mut settings = Settings::default();
        settings
            .set("spark.sql.shuffle.partitions", "8")
            .expect("Spark's settings pass");
        settings
            .set("spark.sql.session.timeZone", "Europe/Paris")
            .expect("a zone");
        assert_eq!(settings.time_zone(), "Europe/Paris");
        let error = settings
            .set("checkpointLocaton", "x")
            .unwrap_err()
            .to_string();
        assert_eq!(
            error,
            "unknown setting 'checkpointLocaton'; did you mean 'checkpointLocation'?"
        );
        settings
            .set("checkpointLocation", "ckpt/")
            .expect("a directory");
        let query = settings
            .query(&EngineOptions::default(), "per_type")
            .expect("settings are valid");
        assert_eq!(query.checkpoint_location.as_deref(), Some("ckpt/per_type"));
    }

    #[test]
    fn an_environment_variable_is_filled_in_and_a_missing_one_is_named() {
        assert_eq!(
            environment("k", "a${ENV:CARGO_PKG_NAME}b").ok().as_deref(),
            Some("atidemarkb")
        );
        assert_eq!(
            environment("k", "${x}${ENV:CARGO_PKG_NAME").ok().as_deref(),
            Some("${x}${ENV:CARGO_PKG_NAME")
        );
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "pw\n").expect("written");
        let written = format!("${{FILE:{}}}", file.path().display());
        assert_eq!(environment("k", &written).ok().as_deref(), Some("pw"));
        let error = environment("k", "${FILE:no/such}").unwrap_err();
        assert!(error.to_string().contains("no/such"), "{error}");
        let error = environment("kafka.password", "${ENV:TIDEMARK_NO_SUCH}")
            .unwrap_err()
            .to_string();
        assert_eq!(
            error,
            "option 'kafka.password' wants the environment variable TIDEMARK_NO_SUCH, which is not set; export it or write the value"
        );
    }
}
