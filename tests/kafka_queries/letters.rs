//! Records that cannot be decoded go to a topic of dead letters, and the others go on.

use std::fs;

use crate::broker::{consume, produce_values, secure};
use crate::run;

#[test]
fn a_poison_record_goes_to_the_dead_letters_once() {
    let Some(cluster) = secure() else {
        return;
    };
    let servers = cluster.servers();
    for topic in ["poisoned", "result", "letters"] {
        cluster.create_topic(topic, 1, &[]);
    }
    let dir = tempfile::tempdir().expect("a directory");
    let script = format!(
        "CREATE TABLE events (id BIGINT, d BIGINT) WITH ('connector' = 'kafka', 'kafka.bootstrap.servers' = '{servers}',
           'subscribe' = 'poisoned', 'startingOffsets' = 'earliest', 'format' = 'json', 'mode' = 'FAILFAST');
         CREATE TABLE letters WITH ('connector' = 'kafka', 'kafka.bootstrap.servers' = '{servers}', 'topic' = 'letters',
           'format' = 'json');
         CREATE TABLE result WITH ('connector' = 'kafka', 'kafka.bootstrap.servers' = '{servers}', 'topic' = 'result',
           'format' = 'json', 'deadLetter' = 'letters', 'trigger' = 'available-now', 'checkpointLocation' = 'ckpt');
         INSERT INTO result SELECT id, 10 / d AS q FROM events;"
    );
    fs::write(dir.path().join("letters.sql"), script).expect("written");
    let rounds = [
        [r#"{"id":1,"d":5}"#, "{", r#"{"id":2,"d":0}"#],
        [r#"{"id":3,"d":5}"#, "}", r#"{"id":4,"d":2}"#],
    ];
    for values in rounds {
        produce_values(&servers, "poisoned", 0, &values);
        let (ended, words) = run(dir.path(), &["run", "letters.sql", "--progress", "none"]);
        assert!(ended, "{words}");
    }
    let values = |topic| -> Vec<String> {
        let records = consume(&servers, topic).into_iter();
        records.filter_map(|(_, value)| value).collect()
    };
    assert_eq!(
        values("result"),
        [
            r#"{"id":1,"q":2.0}"#,
            r#"{"id":3,"q":2.0}"#,
            r#"{"id":4,"q":5.0}"#
        ]
    );
    let letters = values("letters");
    let said = [
        // The bytes are in base64.
        [
            r#""partition":"poisoned-0","offset":"poisoned-0@1","record":"ew==""#,
            "malformed",
        ],
        [
            r#""partition":"poisoned-0","offset":"poisoned-0@2""#,
            r#"{\"id\":2,\"d\":0}"#,
        ],
        [
            r#""partition":"poisoned-0","offset":"poisoned-0@4","record":"fQ==""#,
            "malformed",
        ],
    ];
    assert_eq!(letters.len(), said.len(), "{letters:#?}");
    for (letter, parts) in letters.iter().zip(said) {
        for part in parts {
            assert!(letter.contains(part), "{letter}");
        }
    }
}
