//! Which path answers what.

use std::sync::Arc;

use percent_encoding::percent_decode_str;
use serde::Serialize;

use super::board::Board;
use super::server::{Answer, Request, ServeError, Server};
use crate::runtime::metrics::{CONTENT_TYPE, Metrics};

/// Where metrics are.
pub const METRICS: &str = "/metrics";

/// How many epochs' progress is given where nobody says how many.
const RECENT: usize = 100;

const INDEX: &str = "\
/healthz                  the process answers
/readyz                   all queries run
/queries                  the queries
/queries/NAME/progress    a query's last epoch; ?recent=N: the last N
/queries/NAME/plan        its plan, as EXPLAIN shows it
/queries/NAME/why         why nothing comes out: what it waits for
/metrics                  metrics for Prometheus";

/// Serves metrics alone.
pub fn serve_metrics(address: &str, metrics: &Arc<Metrics>) -> Result<Server, ServeError> {
    let metrics = Arc::clone(metrics);
    Server::start(
        ("metrics", "127.0.0.1:9464"),
        address,
        move |request| match request.path.as_str() {
            METRICS => Answer::of(CONTENT_TYPE, metrics.page()),
            _ => Answer::text("404 Not Found", "there is only /metrics"),
        },
    )
}

/// Serves all there is. `address`: `HOST:PORT`, or a port on the loopback interface.
pub fn serve(
    address: &str,
    board: &Arc<Board>,
    metrics: &Arc<Metrics>,
) -> Result<Server, ServeError> {
    let address = match address.parse::<u16>() {
        Ok(port) => format!("127.0.0.1:{port}"),
        Err(_) => address.to_owned(),
    };
    let (board, metrics) = (Arc::clone(board), Arc::clone(metrics));
    Server::start(("HTTP", "127.0.0.1:8080"), &address, move |request| {
        page(request, &board, &metrics)
    })
}

fn page(request: &Request, board: &Board, metrics: &Metrics) -> Answer {
    let parts: Vec<&str> = request.path.split('/').skip(1).collect();
    match parts[..] {
        [""] => Answer::text("200 OK", INDEX),
        ["healthz"] => Answer::text("200 OK", "ok"),
        ["readyz"] => match board.missing() {
            missing if missing.is_empty() => Answer::text("200 OK", "ok"),
            missing => Answer::text("503 Service Unavailable", &missing.join("\n")),
        },
        ["metrics"] => Answer::of(CONTENT_TYPE, metrics.page()),
        ["queries"] => json(&board.shown()),
        ["queries", name, what @ ("progress" | "plan" | "why")] => {
            let name = percent_decode_str(name).decode_utf8_lossy();
            let query = match board.query(&name) {
                Ok(query) => query,
                Err(why) => return Answer::text("404 Not Found", &why),
            };
            match what {
                "plan" => Answer::text("200 OK", query.explain().trim_end()),
                "why" => Answer::text("200 OK", query.why().trim_end()),
                _ => match recent(&request.query) {
                    None => json(&query.last_progress()),
                    Some(Err(why)) => Answer::text("400 Bad Request", &why),
                    Some(Ok(count)) => {
                        let all = query.recent_progress();
                        json(&all[all.len().saturating_sub(count)..])
                    }
                },
            }
        }
        _ => Answer::text("404 Not Found", &format!("there is only\n{INDEX}")),
    }
}

/// How many epochs are asked for: `recent` or `recent=N`; none: the last one, by itself.
fn recent(query: &str) -> Option<Result<usize, String>> {
    let asked = query
        .split('&')
        .find_map(|pair| pair.strip_prefix("recent"))?;
    match asked.strip_prefix('=') {
        None if asked.is_empty() => Some(Ok(RECENT)),
        None => None,
        Some(count) => {
            Some(count.parse().map_err(|_| {
                format!("recent={count}: write a number of epochs, such as recent=10")
            }))
        }
    }
}

fn json(value: &(impl Serialize + ?Sized)) -> Answer {
    match serde_json::to_string(value) {
        Ok(text) => Answer::of("application/json", text + "\n"),
        Err(error) => Answer::text("500 Internal Server Error", &error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recent_epochs_are_asked_for_by_number_or_all() {
        assert_eq!(recent(""), None);
        assert_eq!(recent("a=1&recently=3"), None);
        assert_eq!(recent("recent"), Some(Ok(RECENT)));
        assert_eq!(recent("a&recent=3"), Some(Ok(3)));
        assert!(matches!(recent("recent=x"), Some(Err(_))));
    }

    #[test]
    fn paths_answer_before_any_query_is_there() {
        let (board, metrics) = (Board::default(), Metrics::new("test"));
        let ask = |path: &str| {
            let request = Request {
                path: path.into(),
                query: String::new(),
            };
            page(&request, &board, &metrics)
        };
        let not_yet = "no query has been started yet";
        assert_eq!(
            ask("/readyz"),
            Answer::text("503 Service Unavailable", not_yet)
        );
        assert_eq!(ask("/queries"), json(&Vec::<u8>::new()));
        board.refused("a b", "no such place");
        let expected = "query 'a b' could not start: no such place";
        assert_eq!(
            ask("/readyz"),
            Answer::text("503 Service Unavailable", expected)
        );
        for path in ["/queries/a%20b/plan", "/queries/A%20B/progress"] {
            assert_eq!(ask(path), Answer::text("404 Not Found", expected));
        }
        let expected = "no query 'x'; there are: a b";
        assert_eq!(
            ask("/queries/x/plan"),
            Answer::text("404 Not Found", expected)
        );
    }
}
