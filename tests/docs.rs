//! The plans in `docs/reading-a-plan.md` are those that the command prints.
//!
//! A block of SQL that a block of text follows is run behind all blocks of SQL before it that no
//! text follows; what the command says must be that text. `TIDEMARK_REWRITE=1` writes it instead,
//! for a look at the difference.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// What the examples read.
const ROW: &str = r#"{"user":"ada","page":"/","amount":1.5,"ts":"2026-01-01T00:00:00Z"}"#;

/// A part of the page: words, or a block with its language.
enum Part<'a> {
    Words(&'a str),
    Block { language: &'a str, body: &'a str },
}

fn parts(page: &str) -> Vec<Part<'_>> {
    let mut parts = vec![];
    let mut rest = page;
    while let Some((words, block)) = rest.split_once("```") {
        let (language, block) = block.split_once('\n').expect("a block has lines");
        let (body, after) = block.split_once("```").expect("a block ends");
        parts.extend([Part::Words(words), Part::Block { language, body }]);
        rest = after;
    }
    parts.push(Part::Words(rest));
    parts
}

fn answer(script: &str) -> String {
    let dir = tempfile::tempdir().expect("there is a temporary directory");
    for input in ["clicks", "orders"] {
        let input = dir.path().join(input);
        fs::create_dir(&input).expect("a directory");
        fs::write(input.join("a.json"), ROW).expect("a file");
    }
    let output = Command::new(env!("CARGO_BIN_EXE_tidemark"))
        .args(["sql", "-e", script])
        .current_dir(dir.path())
        .stdin(Stdio::null())
        .output()
        .expect("the command runs");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8(said).expect("it says text");
    format!("{}\n", said.trim_end())
}

#[test]
fn plans_are_as_the_page_shows_them() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reading-a-plan.md");
    let page = fs::read_to_string(&path).expect("the page is there");
    let parts = parts(&page);
    let mut written = String::new();
    let mut declared = String::new();
    let mut asked: Option<&str> = None;
    for part in &parts {
        match part {
            Part::Words(words) => written.push_str(words),
            Part::Block { language, body } => {
                let mut text = (*body).to_owned();
                match (*language, asked.take()) {
                    ("sql", before) => {
                        declared.push_str(before.unwrap_or_default());
                        asked = Some(body);
                    }
                    ("text", Some(sql)) => text = answer(&format!("{declared}{sql}")),
                    _ => {}
                }
                written.push_str(&format!("```{language}\n{text}```"));
            }
        }
    }
    if std::env::var_os("TIDEMARK_REWRITE").is_some() {
        fs::write(&path, written).expect("the page can be written");
    } else {
        assert_eq!(
            written, page,
            "docs/reading-a-plan.md is not up to date: run this test with TIDEMARK_REWRITE=1"
        );
    }
}
