//! A failure that may pass: all processes start again together, from the checkpoint.

use std::fs;
use std::process::Child;
use std::time::Duration;

use crate::{ENDLESS, Place, a_while, ended, signal, stops, text};

/// The endless query, which is tried again so often.
fn place(retries: u32) -> Place {
    Place::new(&ENDLESS.replace(
        "'trigger' = '100 ms'",
        &format!("'trigger' = '100 ms', 'maxRetries' = '{retries}', 'retryInterval' = '200 ms'"),
    ))
}

/// Where the query writes is gone, and a file lies there.
fn take_away(place: &Place) {
    let out = place.path().join("out");
    fs::rename(&out, place.path().join("away")).unwrap();
    fs::write(out, "in the way").unwrap();
}

fn bring_back(place: &Place) {
    let out = place.path().join("out");
    fs::remove_file(&out).unwrap();
    fs::rename(place.path().join("away"), out).unwrap();
}

#[test]
fn all_processes_start_again_together_and_nothing_is_lost_or_counted_twice() {
    let place = place(1000);
    let [first, second] = place.under_way();
    for _ in 0..2 {
        take_away(&place);
        a_while();
        a_while();
        let before = fs::read_dir(place.path().join("away")).unwrap().count();
        bring_back(&place);
        place.goes_on(before);
    }
    signal(&second, "-INT");
    [first, second].into_iter().for_each(stops);
    let counts = place.counts();
    // Whole seconds of a thousand ticks each, over ten keys.
    let seconds = counts[0] / 100;
    assert!(seconds >= 4, "{counts:?}");
    assert_eq!(counts, vec![seconds * 100; 10]);
}

#[test]
fn processes_give_up_together() {
    let place = place(2);
    let children = place.under_way();
    take_away(&place);
    for child in children {
        let output = ended(child, Duration::from_secs(20));
        assert_eq!(output.status.code(), Some(1), "{}", text(&output));
        let said = text(&output);
        assert!(
            said.contains("it was started again 2 times ('maxRetries') and went no further"),
            "{said}"
        );
    }
}

#[test]
fn a_process_that_is_gone_while_the_others_wait_ends_them() {
    for victim in [0, 1] {
        let place = place(1000);
        let mut children: Vec<Child> = place.under_way().into();
        take_away(&place);
        a_while();
        let mut dead = children.remove(victim);
        dead.kill().unwrap();
        dead.wait().unwrap();
        bring_back(&place);
        let output = ended(children.remove(0), Duration::from_secs(30));
        assert_eq!(output.status.code(), Some(1), "{}", text(&output));
        let said = text(&output);
        assert!(said.contains(&format!("process {victim}")), "{said}");
    }
}
