//! `tidemark demo`: a generator, a windowed query, a live table.

use std::io::{IsTerminal, Write};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Float64Type, Int64Type};
use indicatif::{HumanBytes, HumanCount};

use crate::cli::{DemoArgs, Failure, print, session, stop};
use crate::runtime::Progress;
use crate::session::{Session, SessionError};

/// How often the table is drawn.
const FRAME: Duration = Duration::from_millis(200);

fn script(rate: u64) -> String {
    format!(
        "-- Web events, made up: about {rate} a second, up to 5 seconds out of order.
CREATE TABLE events (
  event_type STRING, user_id BIGINT, amount DOUBLE, ts TIMESTAMP,
  WATERMARK FOR ts AS ts - INTERVAL '5' SECOND
) WITH (
  'connector' = 'datagen', 'rowsPerSecond' = '{rate}',
  'fields.event_type.values' = 'page_view:60,click:25,add_to_cart:10,purchase:4,refund:1',
  'fields.user_id.min' = '1', 'fields.user_id.max' = '100000', 'fields.user_id.skew' = '1.1',
  'fields.amount.min' = '0', 'fields.amount.max' = '200',
  'fields.ts.kind' = 'event-time', 'fields.ts.disorder' = '5 seconds'
);

CREATE TABLE per_type WITH ('connector' = 'memory', 'outputMode' = 'update', 'trigger' = '100 ms');

INSERT INTO per_type
SELECT window.start AS window_start, event_type, count(*) AS events,
       approx_count_distinct(user_id) AS users, sum(amount) AS amount
FROM events
GROUP BY window(ts, '10 seconds'), event_type;
"
    )
}

/// Runs the demo until the time is over or the user has seen enough.
pub(super) fn demo(args: &DemoArgs) -> Result<(), Failure> {
    let script = script(args.rate);
    if args.sql {
        return print(&script);
    }
    let session = session(args.workers, None, (None, None), &[])?;
    let asked = stop::on_signal(&session)?;
    let began = Instant::now();
    let queries = session.sql(&script)?;
    let [query] = &queries[..] else {
        return Err(Failure::query("the demo's script holds one query"));
    };
    let terminal = std::io::stdout().is_terminal();
    let limit = args
        .seconds
        .or((!terminal).then_some(5))
        .map(Duration::from_secs);
    let mut total = 0;
    let mut seen = None;
    let mut drawn = 0;
    loop {
        let over = limit.is_some_and(|limit| began.elapsed() >= limit);
        let ending = over || asked.load(Ordering::SeqCst) || !query.is_active();
        for progress in query.recent_progress() {
            if seen.is_none_or(|seen| progress.batch_id > seen) {
                seen = Some(progress.batch_id);
                total += progress.num_input_rows;
            }
        }
        if (terminal || ending)
            && let Some(progress) = query.last_progress()
        {
            let frame = frame(&session, &progress, began.elapsed(), total, args)?;
            if !terminal {
                drawn = 0;
            }
            draw(&frame, &mut drawn);
        }
        if ending {
            break;
        }
        query.await_termination_timeout(FRAME);
    }
    query.request_stop();
    query
        .await_termination()
        .map_err(|error| Failure::query(error.to_string()))
}

/// Draws a frame over the one before.
fn draw(frame: &str, drawn: &mut usize) {
    let mut out = std::io::stdout().lock();
    let up = if *drawn > 0 {
        format!("\x1b[{drawn}A\x1b[J")
    } else {
        String::new()
    };
    // A closed pipe ends the demo's output, not the demo.
    let _ = write!(out, "{up}{frame}").and_then(|()| out.flush());
    *drawn = frame.lines().count();
}

fn frame(
    session: &Session,
    progress: &Progress,
    elapsed: Duration,
    total: u64,
    args: &DemoArgs,
) -> Result<String, SessionError> {
    let (_, batches) = session.query_tables(
        "SELECT date_format(window_start, 'HH:mm:ss') AS window, event_type, events, users, amount
         FROM per_type
         WHERE window_start >= (SELECT max(window_start) FROM per_type) - INTERVAL '10' SECOND
         ORDER BY window_start DESC, events DESC",
    )?;
    let mut most = 1;
    for batch in &batches {
        let events = batch.column(2).as_primitive::<Int64Type>();
        most = most.max(events.iter().flatten().max().unwrap_or(1));
    }
    let state: u64 = progress
        .state_operators
        .iter()
        .map(|operator| operator.num_rows_total)
        .sum();
    let memory: u64 = progress
        .state_operators
        .iter()
        .map(|operator| operator.memory_used_bytes)
        .sum();
    let rate = total as f64 / elapsed.as_secs_f64().max(0.001);
    let watermark = progress
        .event_time
        .get("watermark")
        .map_or("-", String::as_str);
    let mut out = format!(
        "tidemark demo   10-second windows by event type, {} workers   (Ctrl-C ends; --sql shows the query)\n\n",
        args.workers
    );
    out.push_str(&format!(
        "  {} events   {}/s   epoch {} in {} ms   watermark {}   state {} groups, {}\n\n",
        HumanCount(total),
        HumanCount(rate as u64),
        progress.batch_id,
        progress
            .duration_ms
            .get("triggerExecution")
            .copied()
            .unwrap_or(0),
        watermark.get(11..19).unwrap_or(watermark),
        state,
        HumanBytes(memory),
    ));
    out.push_str("  window     event type        events    users        amount\n");
    let mut last = String::new();
    for batch in &batches {
        let window = batch.column(0).as_string::<i32>();
        let kind = batch.column(1).as_string::<i32>();
        let events = batch.column(2).as_primitive::<Int64Type>();
        let users = batch.column(3).as_primitive::<Int64Type>();
        let amount = batch.column(4).as_primitive::<Float64Type>();
        for row in 0..batch.num_rows() {
            let name = if window.value(row) == last {
                ""
            } else {
                window.value(row)
            };
            let width = usize::try_from(events.value(row) * 30 / most).unwrap_or(0);
            let money = if amount.is_null(row) {
                0.0
            } else {
                amount.value(row)
            };
            out.push_str(&format!(
                "  {name:<9}  {:<12}  {:>10} {:>8}  {:>12}  {}\n",
                kind.value(row),
                HumanCount(events.value(row) as u64).to_string(),
                HumanCount(users.value(row) as u64).to_string(),
                HumanCount(money as u64).to_string(),
                "█".repeat(width.max(1)),
            ));
            window.value(row).clone_into(&mut last);
        }
    }
    Ok(out)
}
