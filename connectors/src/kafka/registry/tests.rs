//! The client against a registry of a few lines.

use super::server::TestRegistry;
use super::*;

const ROW: &str = r#"{"type":"record","name":"R","fields":[{"name":"o","type":"shop.Order"}]}"#;
const ORDER: &str =
    r#"{"type":"record","name":"shop.Order","fields":[{"name":"l","type":"shop.Line"}]}"#;
const LINE: &str = r#"{"type":"record","name":"shop.Line","fields":[]}"#;

fn open(url: &str, more: &[(&str, &str)]) -> Result<Option<Registry>> {
    let all = [("schema.registry.url", url)];
    let options: Options = all.iter().chain(more).copied().collect();
    Registry::new(&options)
}

fn client(server: &TestRegistry, more: &[(&str, &str)]) -> Registry {
    let client = open(&server.url(), more).expect("options");
    client.expect("a registry")
}

#[test]
fn a_number_is_asked_for_once_with_all_that_its_schema_names() {
    let server = TestRegistry::start();
    server.add("line-value", json!({"schema": LINE}));
    let line = json!([{"name": "shop.Line", "subject": "line-value", "version": 1}]);
    server.add("order-value", json!({"schema": ORDER, "references": line}));
    let order = json!([{"name": "shop.Order", "subject": "order-value", "version": 1}]);
    let id = server.add("x", json!({"schema": ROW, "references": order}));
    let client = client(&server, &[]);
    for _ in 0..2 {
        let schema = client.schema(id as u32).expect("an answer");
        assert_eq!(&**schema.expect("a schema").text(), ROW);
    }
    assert_eq!(server.asked(), 3);
}

#[test]
fn what_a_number_does_not_stand_for_is_no_error_of_the_registry() {
    let server = TestRegistry::start();
    let proto = server.add(
        "p",
        json!({"schema": "message P {}", "schemaType": "PROTOBUF"}),
    );
    let lost = json!([{"name": "shop.Order", "subject": "order-value", "version": 4}]);
    let lost = server.add("x", json!({"schema": ROW, "references": lost}));
    let client = client(&server, &[]);
    let cases = [
        (proto, "of type PROTOBUF"),
        (lost, "version 4 of 'order-value', which is gone"),
        (77, "schema 77: the schema registry does not have it"),
    ];
    for (id, part) in cases {
        let known = client.schema(id as u32).expect("an answer");
        let why = known.expect_err(part);
        assert!(why.contains(part), "{why}");
    }
}

#[test]
fn a_schema_is_registered_once_and_the_newest_is_found() {
    let server = TestRegistry::start();
    let client = client(&server, &[]);
    let missing = client.latest("t-value").expect_err("nothing").to_string();
    assert!(missing.contains("'auto.register.schemas'"), "{missing}");
    assert_eq!(client.register("t-value", LINE).expect("a number"), 1);
    assert_eq!(client.register("t-value", LINE).expect("a number"), 1);
    let other = LINE.replace("Line", "Row");
    assert_eq!(client.register("t-value", &other).expect("a number"), 2);
    assert_eq!(server.subject("t-value"), [LINE, &other]);
    let (id, newest) = client.latest("t-value").expect("a schema");
    assert_eq!((id, &**newest.text()), (2, other.as_str()));
    server.trouble(Some(409));
    let refused = client.register("t-value", LINE).expect_err("a conflict");
    let refused = refused.to_string();
    assert!(
        refused.contains("there is trouble") && refused.contains("compatibility"),
        "{refused}"
    );
}

#[test]
fn a_login_is_shown_to_the_registry_and_to_nobody_else() {
    let server = TestRegistry::start();
    server.add("line-value", json!({"schema": LINE}));
    // ada:lovelace
    server.protect("Basic YWRhOmxvdmVsYWNl");
    let login = |password| client(&server, &[(USER, "ada"), (PASSWORD, password)]);
    let good = login("lovelace");
    assert!(good.schema(1).expect("an answer").is_ok());
    assert!(!format!("{good:?}").contains("YWRh"));
    let error = login("byron").schema(1).expect_err("refused").to_string();
    assert!(
        error.contains("schema.registry.password") && !error.contains("byron"),
        "{error}"
    );
}

#[test]
fn a_registry_that_is_away_for_a_moment_is_waited_for() {
    let server = TestRegistry::start();
    server.add("line-value", json!({"schema": LINE}));
    server.trouble(Some(503));
    let client = client(&server, &[]);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(Duration::from_millis(500));
            server.trouble(None);
        });
        assert!(client.schema(1).expect("an answer").is_ok());
    });
    server.trouble(Some(503));
    let began = Instant::now();
    let error = client.schema(2).expect_err("no answer").to_string();
    assert!(error.contains("answers 503: there is trouble"), "{error}");
    assert!(began.elapsed() < Duration::from_secs(10));
}

#[test]
fn what_is_wrong_with_the_options_is_said_without_the_login() {
    let cases: [(&str, &[(&str, &str)], &str); 5] = [
        ("localhost:8081", &[], "the URL of a schema registry"),
        ("http://ada:lovelace@h", &[], "'schema.registry.username'"),
        ("http://h", &[(PASSWORD, "lovelace")], "a login has both"),
        ("http://h", &[(CA, "/no/such.pem")], "/no/such.pem"),
        ("http://h", &[(CA, "/dev/null")], "certificates in PEM"),
    ];
    for (url, more, part) in cases {
        let error = open(url, more).expect_err(part).to_string();
        assert!(
            error.contains(part) && !error.contains("lovelace"),
            "{error}"
        );
    }
    let alone: Options = [(USER, "ada")].into_iter().collect();
    let error = Registry::new(&alone).expect_err("no URL").to_string();
    assert!(error.contains("'schema.registry.url'"), "{error}");
}
