//! Every name that is served, and where its numbers come from.
//!
//! Names and units follow Prometheus' conventions (its documentation, "Metric and label naming"):
//! `tidemark_` in front, base units behind, `_total` for counters. The last ones have the names that
//! dashboards for Spark and Kafka ask for.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::page::{Kind, Samples};
use super::series::{Operator, OperatorNow, Query, Source};

/// What a page is made from.
pub(super) struct Snapshot<'a> {
    pub(super) app_id: &'a str,
    /// When the process began, in microseconds.
    pub(super) started: i64,
    pub(super) queries: &'a BTreeMap<String, Arc<Query>>,
}

/// Some samples of one name.
struct Family {
    name: &'static str,
    kind: Kind,
    help: &'static str,
    samples: fn(&mut Samples<'_>, &Snapshot<'_>),
}

/// The page: every family, whether there is a sample of it or not.
pub(super) fn page(snapshot: &Snapshot<'_>) -> String {
    let mut text = String::new();
    for family in FAMILIES {
        let named = (family.name, family.kind);
        let mut samples = Samples::begin(&mut text, named, family.help);
        (family.samples)(&mut samples, snapshot);
    }
    text
}

const FAMILIES: &[Family] = &[
    Family {
        name: "tidemark_build_info",
        kind: Kind::Gauge,
        help: "Always 1; the version is a label.",
        samples: |out, _| out.add(&[("version", env!("CARGO_PKG_VERSION"))], 1),
    },
    Family {
        name: "process_start_time_seconds",
        kind: Kind::Gauge,
        help: "When the process began, in seconds since 1970.",
        samples: |out, snapshot| out.add(&[], seconds(snapshot.started)),
    },
    Family {
        name: "tidemark_query_running",
        kind: Kind::Gauge,
        help: "1 while the query runs, 0 once it has ended.",
        samples: |out, snapshot| {
            queries(snapshot, |name, query| {
                out.add(&[("query", name)], u8::from(query.ended.is_none()));
            });
        },
    },
    Family {
        name: "tidemark_query_failures_total",
        kind: Kind::Counter,
        help: "How often the query ended with an error, or could not start.",
        samples: |out, snapshot| {
            queries(snapshot, |name, query| {
                out.add(&[("query", name)], query.failures);
            });
        },
    },
    Family {
        name: "tidemark_query_restarts_total",
        kind: Kind::Counter,
        help: "How often the query was started again on its checkpoint, in all processes there have been.",
        samples: |out, snapshot| {
            queries(snapshot, |name, query| {
                out.add(&[("query", name)], query.restarts);
            });
        },
    },
    Family {
        name: "tidemark_query_warnings_total",
        kind: Kind::Counter,
        help: "What went wrong without harm to the query.",
        samples: |out, snapshot| {
            queries(snapshot, |name, query| {
                out.add(&[("query", name)], query.warnings);
            });
        },
    },
    Family {
        name: "tidemark_epochs_total",
        kind: Kind::Counter,
        help: "Epochs committed by this process.",
        samples: |out, snapshot| {
            queries(snapshot, |name, query| {
                out.add(&[("query", name)], query.epochs);
            });
        },
    },
    Family {
        name: "tidemark_epoch",
        kind: Kind::Gauge,
        help: "The newest committed epoch.",
        samples: |out, snapshot| {
            queries(snapshot, |name, query| {
                if let Some((epoch, _)) = query.now.committed {
                    out.add(&[("query", name)], epoch);
                }
            });
        },
    },
    Family {
        name: "tidemark_last_commit_timestamp_seconds",
        kind: Kind::Gauge,
        help: "When the newest epoch was committed, in seconds since 1970.",
        samples: |out, snapshot| {
            queries(snapshot, |name, query| {
                if let Some((_, at)) = query.now.committed {
                    out.add(&[("query", name)], seconds(at));
                }
            });
        },
    },
    Family {
        name: "tidemark_epoch_duration_seconds",
        kind: Kind::Histogram,
        help: "How long epochs took, from their decision to the end of their commit.",
        samples: |out, snapshot| {
            queries(snapshot, |name, query| {
                out.histogram(&[("query", name)], &query.epoch_duration);
            });
        },
    },
    Family {
        name: "tidemark_epoch_phase_duration_seconds",
        kind: Kind::Histogram,
        help: "How long each phase of epochs took; phases have Spark's names.",
        samples: |out, snapshot| {
            queries(snapshot, |name, query| {
                for (phase, spent) in &query.phase_durations {
                    out.histogram(&[("query", name), ("phase", phase)], spent);
                }
            });
        },
    },
    Family {
        name: "tidemark_busy_seconds_total",
        kind: Kind::Counter,
        help: "How long each part of the query was at work, on its busiest worker.",
        samples: |out, snapshot| {
            queries(snapshot, |name, query| {
                for (part, spent) in &query.busy {
                    out.add(&[("query", name), ("part", part)], spent.as_secs_f64());
                }
            });
        },
    },
    Family {
        name: "tidemark_event_age_seconds",
        kind: Kind::Histogram,
        help: "How old the newest event of each epoch was when the epoch was committed.",
        samples: |out, snapshot| {
            queries(snapshot, |name, query| {
                out.histogram(&[("query", name)], &query.event_ages);
            });
        },
    },
    Family {
        name: "tidemark_row_latency_seconds",
        kind: Kind::Histogram,
        help: "How long rows of continuous queries took, from their arrival to the sink's acknowledgement.",
        samples: |out, snapshot| {
            queries(snapshot, |name, query| {
                if let Some(latencies) = &query.latencies {
                    out.histogram(&[("query", name)], latencies);
                }
            });
        },
    },
    Family {
        name: "tidemark_source_rows_total",
        kind: Kind::Counter,
        help: "Rows read; failed are records that could not be decoded, and rows set aside as dead letters.",
        samples: |out, snapshot| {
            sources(snapshot, |query, name, source| {
                let labels = |status| [("query", query), ("source", name), ("status", status)];
                out.add(&labels("processed"), source.processed);
                out.add(&labels("failed"), source.failed);
            });
        },
    },
    Family {
        name: "tidemark_source_lag_offsets",
        kind: Kind::Gauge,
        help: "How far the newest epoch ended before what there was to read when it was planned, in the source's offsets.",
        samples: |out, snapshot| {
            sources(snapshot, |query, name, source| {
                for (partition, lag) in &source.now.lags {
                    let labels = [("query", query), ("source", name), ("partition", partition)];
                    out.add(&labels, lag.offsets);
                }
            });
        },
    },
    Family {
        name: "tidemark_source_backlog_files",
        kind: Kind::Gauge,
        help: "Files that were found and are in no epoch yet.",
        samples: |out, snapshot| {
            sources(snapshot, |query, name, source| {
                if let Some(backlog) = source.now.backlog {
                    out.add(&[("query", query), ("source", name)], backlog.files);
                }
            });
        },
    },
    Family {
        name: "tidemark_source_backlog_bytes",
        kind: Kind::Gauge,
        help: "The size of those files.",
        samples: |out, snapshot| {
            sources(snapshot, |query, name, source| {
                if let Some(backlog) = source.now.backlog {
                    out.add(&[("query", query), ("source", name)], backlog.bytes);
                }
            });
        },
    },
    Family {
        name: "tidemark_partition_watermark_timestamp_seconds",
        kind: Kind::Gauge,
        help: "How far the event time of a partition has come, less the delay, in seconds since 1970.",
        samples: |out, snapshot| {
            sources(snapshot, |query, name, source| {
                for (partition, (watermark, _)) in &source.now.partitions {
                    if let Some(watermark) = watermark {
                        let labels = [("query", query), ("source", name), ("partition", partition)];
                        out.add(&labels, seconds(*watermark));
                    }
                }
            });
        },
    },
    Family {
        name: "tidemark_partition_idle",
        kind: Kind::Gauge,
        help: "1 while a partition is silent for longer than idleTimeout, and does not hold the watermark back.",
        samples: |out, snapshot| {
            sources(snapshot, |query, name, source| {
                for (partition, (_, idle)) in &source.now.partitions {
                    let labels = [("query", query), ("source", name), ("partition", partition)];
                    out.add(&labels, u8::from(*idle));
                }
            });
        },
    },
    Family {
        name: "tidemark_watermark_timestamp_seconds",
        kind: Kind::Gauge,
        help: "The query's watermark, in seconds since 1970.",
        samples: |out, snapshot| {
            queries(snapshot, |name, query| {
                if let Some(watermark) = query.now.watermark {
                    out.add(&[("query", name)], seconds(watermark));
                }
            });
        },
    },
    Family {
        name: "tidemark_operator_watermark_timestamp_seconds",
        kind: Kind::Gauge,
        help: "The watermark up to which an operator that waits for event time has given its results.",
        samples: |out, snapshot| {
            operators_now(snapshot, |labels, now| {
                if let Some(watermark) = now.watermark {
                    out.add(labels, seconds(watermark));
                }
            });
        },
    },
    Family {
        name: "tidemark_operator_state_rows",
        kind: Kind::Gauge,
        help: "Rows that a stateful operator keeps.",
        samples: |out, snapshot| operators_now(snapshot, |labels, now| out.add(labels, now.rows)),
    },
    Family {
        name: "tidemark_operator_state_bytes",
        kind: Kind::Gauge,
        help: "The memory that they take.",
        samples: |out, snapshot| operators_now(snapshot, |labels, now| out.add(labels, now.bytes)),
    },
    Family {
        name: "tidemark_operator_updated_rows_total",
        kind: Kind::Counter,
        help: "Rows of state inserted or changed.",
        samples: |out, snapshot| operators(snapshot, |labels, one| out.add(labels, one.updated)),
    },
    Family {
        name: "tidemark_operator_removed_rows_total",
        kind: Kind::Counter,
        help: "Rows of state forgotten.",
        samples: |out, snapshot| operators(snapshot, |labels, one| out.add(labels, one.removed)),
    },
    Family {
        name: "tidemark_operator_late_rows_total",
        kind: Kind::Counter,
        help: "Rows left out because they came behind the watermark.",
        samples: |out, snapshot| operators(snapshot, |labels, one| out.add(labels, one.late)),
    },
    Family {
        name: "tidemark_sink_rows_total",
        kind: Kind::Counter,
        help: "Rows written and committed.",
        samples: |out, snapshot| {
            queries(snapshot, |name, query| {
                for (sink, rows) in &query.sinks {
                    out.add(&[("query", name), ("sink", sink)], rows);
                }
            });
        },
    },
    Family {
        name: "tidemark_dead_letters_total",
        kind: Kind::Counter,
        help: "Rows set aside because an expression failed on them.",
        samples: |out, snapshot| {
            queries(snapshot, |name, query| {
                out.add(&[("query", name)], query.dead_letters);
            });
        },
    },
    Family {
        name: "tidemark_worker_rows_total",
        kind: Kind::Counter,
        help: "Rows read, by worker.",
        samples: |out, snapshot| {
            queries(snapshot, |name, query| {
                for (worker, rows) in &query.worker_rows {
                    out.add(&[("query", name), ("worker", &worker.to_string())], rows);
                }
            });
        },
    },
    Family {
        name: "tidemark_worker_state_bytes",
        kind: Kind::Gauge,
        help: "The memory that state takes, by worker.",
        samples: |out, snapshot| {
            queries(snapshot, |name, query| {
                for (worker, bytes) in query.now.worker_state.iter().enumerate() {
                    out.add(&[("query", name), ("worker", &worker.to_string())], bytes);
                }
            });
        },
    },
    Family {
        name: "tidemark_checkpoint_bytes",
        kind: Kind::Gauge,
        help: "What the query's checkpoint takes on disk.",
        samples: |out, snapshot| {
            queries(snapshot, |name, query| {
                let checkpoint = query.now.checkpoint.as_ref();
                // One that cannot be read now has no size now.
                if let Some(bytes) = checkpoint.and_then(|scales| scales.weigh().ok()) {
                    out.add(&[("query", name)], bytes);
                }
            });
        },
    },
    Family {
        name: "kafka_consumer_lag",
        kind: Kind::Gauge,
        help: "tidemark_source_lag_offsets of sources whose partitions belong to topics.",
        samples: |out, snapshot| {
            sources(snapshot, |query, _, source| {
                for lag in source.now.lags.values() {
                    if let [topic, partition] = &*lag.way {
                        let labels = [
                            ("app_id", snapshot.app_id),
                            ("query", query),
                            ("topic", topic),
                            ("partition", partition),
                        ];
                        out.add(&labels, lag.offsets);
                    }
                }
            });
        },
    },
    Family {
        name: "spark_streaming_total_input_rows",
        kind: Kind::Untyped,
        help: "tidemark_source_rows_total of all sources of a query; a counter.",
        samples: |out, snapshot| {
            queries(snapshot, |name, query| {
                let labels = |status| {
                    let app_id = snapshot.app_id;
                    [("app_id", app_id), ("query", name), ("status", status)]
                };
                let (processed, failed) = total(query);
                out.add(&labels("processed"), processed);
                out.add(&labels("failed"), failed);
            });
        },
    },
    Family {
        name: "spark_streaming_total_events",
        kind: Kind::Untyped,
        help: "The processed ones of spark_streaming_total_input_rows; a counter.",
        samples: |out, snapshot| {
            queries(snapshot, |name, query| {
                let labels = [("app_id", snapshot.app_id), ("query", name)];
                out.add(&labels, total(query).0);
            });
        },
    },
];

fn queries(snapshot: &Snapshot<'_>, mut each: impl FnMut(&str, &Query)) {
    for (name, query) in snapshot.queries {
        each(name, query);
    }
}

/// Each source of each query: the query's name, the source's name, the source.
fn sources(snapshot: &Snapshot<'_>, mut each: impl FnMut(&str, &str, &Source)) {
    queries(snapshot, |query, all| {
        for (name, source) in &all.sources {
            each(query, name, source);
        }
    });
}

/// Each stateful operator of each query, with its labels.
fn operators(snapshot: &Snapshot<'_>, mut each: impl FnMut(&[(&str, &str)], &Operator)) {
    queries(snapshot, |query, all| {
        for (id, one) in &all.operators {
            let id = id.to_string();
            let labels = [("query", query), ("operator", &id), ("kind", &one.kind)];
            each(&labels, one);
        }
    });
}

/// Of queries that run.
fn operators_now(snapshot: &Snapshot<'_>, mut each: impl FnMut(&[(&str, &str)], &OperatorNow)) {
    operators(snapshot, |labels, one| {
        if let Some(now) = &one.now {
            each(labels, now);
        }
    });
}

/// Rows processed and failed, of all sources of a query.
fn total(query: &Query) -> (u64, u64) {
    let sources = query.sources.values();
    sources.fold((0, 0), |(processed, failed), source| {
        (processed + source.processed, failed + source.failed)
    })
}

/// Of microseconds.
fn seconds(microseconds: i64) -> f64 {
    microseconds as f64 / 1e6
}
