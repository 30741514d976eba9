//! Short texts: options, lengths of time, patterns, zones, times.

use tidemark_connectors::Options;
use tidemark_connectors::format::casts::Casts;
use tidemark_connectors::format::pattern::Pattern;
use tidemark_connectors::format::zone::Zone;
use tidemark_connectors::options::parse_duration;

use crate::{entries, fuzz};

#[test]
fn options_and_patterns_are_read_or_refused() {
    let times: [&[u8]; 6] = [
        b"2024-02-29 23:59:59.999999",
        b"29.02.24",
        b"",
        b"+292278-01-10T04:00:54.775807Z",
        b"-0001-12-31",
        "2026年1月1日".as_bytes(),
    ];
    fuzz("text", &entries(include_str!("corpus/text.txt")), |input| {
        let text = String::from_utf8_lossy(input);
        let _ = parse_duration(&text);
        let options: Options = [("k", text.as_ref())].into_iter().collect();
        let _ = (
            options.bytes("k"),
            options.duration("k"),
            options.integer("k", 1),
            options.boolean("k", true),
        );
        let _ = options.check_known("file", &["path", "format"]);
        let zone = Zone::parse(&text).unwrap_or(Zone::UTC);
        let plain = Casts {
            zone,
            ..Casts::default()
        };
        read(&plain, input);
        if let Ok(pattern) = Pattern::for_reading(&text) {
            let casts = Casts {
                zone,
                timestamp: Some(pattern.clone()),
                timestamp_ntz: Some(pattern.clone()),
                date: Some(pattern),
            };
            for time in times {
                read(&casts, time);
            }
            read(&casts, input);
        }
        Ok(())
    });
}

fn read(casts: &Casts, text: &[u8]) {
    let _ = (
        casts.timestamp(text),
        casts.timestamp_ntz(text),
        casts.date(text),
    );
}
