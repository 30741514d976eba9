//! Two runs of one query on one checkpoint.

use std::fs;
use std::process::Child;

use crate::{ENDLESS, Place, a_while, fails, signal, stops};

/// Starts all processes, the first one last: the others wait, and are told why it does not run.
fn start(place: &Place, processes: usize) -> Vec<Child> {
    place.hosts(processes);
    let n = processes.to_string();
    let others: Vec<Child> = (1..processes)
        .map(|process| place.start(process, &["-n", &n]))
        .collect();
    if processes > 1 {
        a_while();
    }
    let mut children = vec![place.start(0, &["-n", &n])];
    children.extend(others);
    children
}

#[test]
fn the_second_is_refused_while_the_first_lives_and_takes_over_when_it_is_dead() {
    for processes in [1, 2] {
        let place = Place::new(ENDLESS);
        let mut first = start(&place, processes);
        place.goes_on(0);
        let holder = first[0].id();
        for process in start(&place, processes) {
            fails(
                process,
                &format!(
                    "is in use by the process with pid {holder}; one checkpoint belongs to one running query: stop that one"
                ),
            );
        }
        place.goes_on(place.written());
        for child in &mut first {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        // The lock's file stays, and nobody holds it.
        let lock = place.path().join("checkpoint/tidemark.lock");
        assert_eq!(fs::read_to_string(lock).unwrap(), format!("{holder}\n"));
        let before = place.written();
        let second = start(&place, processes);
        place.goes_on(before);
        signal(&second[0], "-INT");
        second.into_iter().for_each(stops);
    }
}
