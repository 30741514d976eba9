//! Processes that do not come together say why, and soon.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::time::Duration;

use crate::{ENDLESS, Place, a_while, ended, fails, signal, stops, text};

#[test]
fn processes_that_do_not_fit_say_why() {
    let place = Place::new(ENDLESS);
    place.hosts(2);
    let alone = place.start(0, &["-n", "2", "--connect-timeout", "1"]);
    fails(
        alone,
        "has not come for query 'counts' in 1 s; start it with -p 1",
    );
    // Nobody listens there, not even another test for a moment.
    fs::write(place.path().join("hosts"), "127.0.0.1:1\n127.0.0.1:2").unwrap();
    let alone = place.start(1, &["-n", "2", "--connect-timeout", "1"]);
    fails(alone, "cannot be reached: Connection refused");

    place.hosts(2);
    let first = place.start(0, &["-n", "2", "-w", "2"]);
    fails(
        place.start(1, &["-n", "2"]),
        "refuses: process 0 was started with -w 2, process 1 with -w 1; use one number",
    );
    fails(
        first,
        "process 0 was started with -w 2, process 1 with -w 1",
    );

    place.hosts(2);
    let first = place.start(0, &["-n", "2"]);
    fails(
        place.start(1, &["-n", "2", "--set", "session.timeZone=Asia/Tokyo"]),
        "query 'counts' is not the same in processes 0 and 1: its plan differs; give both the same script",
    );
    fails(first, "is not the same");

    // What a checkpoint does not depend on counts here.
    place.hosts(2);
    let first = place.start(0, &["-n", "2"]);
    a_while();
    let filtered = ENDLESS.replace("FROM ticks", "FROM ticks WHERE value > 7");
    fs::write(place.path().join("script.sql"), filtered).unwrap();
    fails(
        place.start(1, &["-n", "2"]),
        "is not the same in processes 0 and 1",
    );
    fails(first, "is not the same");
}

#[test]
fn another_program_at_the_address_is_told_apart() {
    let place = Place::new(ENDLESS);
    let listener = TcpListener::bind(&place.hosts(2)[0]).unwrap();
    let options = ["-n", "2", "--connect-timeout", "1"];
    let silent = place.start(1, &options);
    let _open = listener.accept().unwrap();
    fails(
        silent,
        "took the connection and said nothing for query 'counts' in 1 s",
    );
    let strange = place.start(1, &options);
    let (mut guest, _) = listener.accept().unwrap();
    guest
        .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        .unwrap();
    fails(strange, "what it says is not Tidemark's");
    fails(place.start(0, &options), "cannot listen at 127.0.0.1:");
}

#[test]
fn strangers_do_not_keep_the_others_out() {
    let place = Place::new(ENDLESS);
    let addresses = place.hosts(2);
    let first = place.start(0, &["-n", "2"]);
    a_while();
    let mut browser = TcpStream::connect(&addresses[0]).unwrap();
    browser.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    let _silent = TcpStream::connect(&addresses[0]).unwrap();
    let second = place.start(1, &["-n", "2"]);
    place.goes_on(0);
    signal(&first, "-INT");
    [first, second].into_iter().for_each(stops);

    let addresses = place.hosts(2);
    let first = place.start(0, &["-n", "2"]);
    a_while();
    let mut newer = TcpStream::connect(&addresses[0]).unwrap();
    newer
        .write_all(b"{\"version\":\"99.0\",\"process\":1,\"query\":\"counts\",\"mood\":\"good\"}\n")
        .unwrap();
    let mut answer = String::new();
    BufReader::new(newer).read_line(&mut answer).unwrap();
    assert!(
        answer.contains("process 1 is 99.0; run one version"),
        "{answer}"
    );
    fails(first, "process 1 is 99.0; run one version");
}

#[test]
fn nothing_of_the_script_is_told_before_the_other_one_is_known() {
    let place = Place::new(&ENDLESS.replace(
        "FROM ticks",
        "FROM ticks WHERE 'hunter' || value <> 'hunter2'",
    ));
    let listener = TcpListener::bind(&place.hosts(2)[0]).unwrap();
    let process = place.start(1, &["-n", "2"]);
    let mut hello = String::new();
    let (guest, _) = listener.accept().unwrap();
    BufReader::new(&guest).read_line(&mut hello).unwrap();
    assert!(hello.contains("\"query\":\"counts\""), "{hello}");
    for secret in ["hunter", "ticks", "checkpoint", "SELECT"] {
        assert!(!hello.contains(secret), "{hello}");
    }
    drop(guest);
    fails(process, "it has closed the connection");
}

#[test]
fn a_user_need_not_wait_for_the_others() {
    let place = Place::new(ENDLESS);
    for process in [0, 1] {
        place.hosts(2);
        let child = place.start(process, &["-n", "2", "--connect-timeout", "60"]);
        a_while();
        signal(&child, "-INT");
        stops(child);
    }
}

#[test]
fn a_checkpoint_that_processes_do_not_share_is_refused() {
    let place = Place::new(ENDLESS);
    place.hosts(2);
    let elsewhere = Place::new(ENDLESS);
    fs::create_dir_all(elsewhere.path().join("checkpoint/state")).unwrap();
    fs::copy(place.path().join("hosts"), elsewhere.path().join("hosts")).unwrap();
    let first = place.start(0, &["-n", "2"]);
    let second = elsewhere.start(1, &["-n", "2"]);
    for process in [first, second] {
        fails(
            process,
            "give all processes a 'checkpointLocation' that they share",
        );
    }
}

#[test]
fn bad_options_are_usage_errors() {
    let place = Place::new(ENDLESS);
    place.hosts(2);
    for (options, message) in [
        (
            &["-n", "2", "-p", "2", "-H", "hosts"][..],
            "with -n 2 processes are numbered 0 to 1",
        ),
        (&["-n", "3", "-H", "hosts"], "hosts names 2 of 3 processes"),
        (
            &["-n", "2", "-H", "nowhere"],
            "cannot read the host file nowhere",
        ),
        (
            &["-n", "2", "-H", "hosts", "--batch"],
            "--batch runs in one process; leave -n out",
        ),
    ] {
        let child = Command::new(env!("CARGO_BIN_EXE_tidemark"))
            .args(["run", "script.sql"])
            .args(options)
            .current_dir(place.path())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let output = ended(child, Duration::from_secs(10));
        assert_eq!(output.status.code(), Some(2), "{}", text(&output));
        assert!(text(&output).contains(message), "{}", text(&output));
    }
}
