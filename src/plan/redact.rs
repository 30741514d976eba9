//! Secrets in options: the one place that decides what may be shown.

use std::borrow::Cow;

use strsim::osa_distance;
use tidemark_connectors::Options;

/// What stands for a secret.
const HIDDEN: &str = "***";

/// Parts of an option's name that make its value a secret.
const SECRET: [&str; 10] = [
    "password",
    "passwd",
    "pwd",
    "secret",
    "token",
    "credential",
    "jaas",
    "passphrase",
    // User and password, in the words of schema registries.
    "user.info",
    "user-info",
];

/// Words beside `key` that say that it is a column or a place, not a secret.
const HARMLESS_KEY: [&str; 12] = [
    "primarykey",
    "partitionkey",
    "column",
    "field",
    "serializer",
    "format",
    "converter",
    "keyby",
    "keystore.location",
    "keystore.type",
    "truststore",
    "prefix",
];

/// The value as it may be shown: secrets, and passwords inside URLs, are replaced by `***`.
pub fn redact<'a>(key: &str, value: &'a str) -> Cow<'a, str> {
    if is_secret(key) {
        Cow::Borrowed(HIDDEN)
    } else {
        without_url_password(value)
    }
}

/// All options as they may be shown, `'key' = 'value'`, by name.
pub fn shown_options(options: &Options) -> Vec<String> {
    options
        .iter()
        .map(|(key, value)| format!("'{key}' = '{}'", redact(key, value)))
        .collect()
}

/// A line of a script as it may be shown: each quoted text that is or has a secret becomes stars, so
/// that what stands behind it stays in its place.
pub fn redact_line(line: &str) -> String {
    let mut shown = String::with_capacity(line.len());
    let mut name = "";
    let mut last = "";
    for (index, part) in line.split('\'').enumerate() {
        if index > 0 {
            shown.push('\'');
        }
        if index % 2 == 0 {
            // Two quotes stand for one: the text goes on, and so does its name.
            if index == 0 || !part.is_empty() {
                name = if part.trim() == "=" { last } else { "" };
            }
            shown.push_str(part);
        } else if redact(name, part) == part {
            shown.push_str(part);
            last = part;
        } else {
            shown.extend(part.chars().map(|_| '*'));
        }
    }
    shown
}

/// Whether a word of an option's name is nearly one of [`SECRET`]: what is refused for its name is shown too.
fn misspelt(key: &str) -> bool {
    let near = |word: &str, secret: &&str| secret.len() > 4 && osa_distance(word, secret) <= 2;
    key.split(['.', '_', '-'])
        .filter(|word| word.len() > 4)
        .any(|word| SECRET.iter().any(|secret| near(word, secret)))
}

fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    if SECRET.iter().any(|part| key.contains(part)) || misspelt(&key) {
        return true;
    }
    let plain: String = key.chars().filter(|c| !matches!(c, '_' | '-')).collect();
    plain.contains("key")
        && plain != "key"
        && plain != "keys"
        && !HARMLESS_KEY.iter().any(|word| plain.contains(word))
}

/// `scheme://user:password@host` and `...password=x...` without the password.
fn without_url_password(value: &str) -> Cow<'_, str> {
    let mut shown = Cow::Borrowed(value);
    if let Some((scheme, rest)) = value.split_once("://") {
        let authority = rest.split(['/', '?']).next().unwrap_or(rest);
        // What stands behind the colon is a port, or a password with a sign that should have been escaped.
        let is_cut = !authority.contains('@')
            && (authority.split_once(':'))
                .is_some_and(|(_, port)| port.bytes().any(|byte| !byte.is_ascii_digit()));
        let login = if is_cut { rest } else { authority };
        if let Some((login, _)) = login.rsplit_once('@')
            && let Some((user, _)) = login.split_once(':')
        {
            shown = Cow::Owned(format!(
                "{scheme}://{user}:{HIDDEN}{}",
                &rest[login.len()..]
            ));
        }
    }
    let lower = shown.to_ascii_lowercase();
    if !SECRET.iter().any(|part| lower.contains(part)) {
        return shown;
    }
    // Name-value pairs such as those of a JDBC URL.
    let mut out = String::with_capacity(shown.len());
    for piece in shown.split_inclusive(['&', ';', '?', ' ']) {
        let end = piece.trim_end_matches(['&', ';', '?', ' ']).len();
        match piece[..end].split_once('=') {
            Some((name, _)) if is_secret(name) => {
                out.push_str(name);
                out.push('=');
                out.push_str(HIDDEN);
                out.push_str(&piece[end..]);
            }
            _ => out.push_str(piece),
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_keep_their_length() {
        let cases = [
            (
                "WITH ('topic' = 'a', 'x.password' = 'b''c', 'y' = 'd')",
                "WITH ('topic' = 'a', 'x.password' = '*''*', 'y' = 'd')",
            ),
            (
                "'login password=\"x\";' , 'a'",
                "'*******************' , 'a'",
            ),
            ("SELECT 'password', 'b'", "SELECT 'password', 'b'"),
            ("'api_key'='k", "'api_key'='*"),
        ];
        for (line, shown) in cases {
            assert_eq!(redact_line(line), shown);
        }
    }

    #[test]
    fn secrets_are_never_shown() {
        for key in [
            "password",
            "kafka.sasl.jaas.config",
            "accessKey",
            "fs.s3a.secret.key",
            "api_key",
            "kafka.ssl.keystore.password",
            "authToken",
            "kafka.sasl.pasword",
            "basic.auth.user.info",
            "sasl.oauthbearer.client.credentials.id",
            "kafka.ssl.keystore.key",
        ] {
            assert_eq!(redact(key, "hunter2"), "***", "{key}");
        }
    }

    #[test]
    fn columns_and_places_are_shown() {
        for key in [
            "path",
            "primaryKey",
            "key.columns",
            "key.fields",
            "kafka.ssl.keystore.location",
            "partitionBy",
            "kafka.bootstrap.servers",
            "topic",
            "key",
        ] {
            assert_eq!(redact(key, "x"), "x", "{key}");
        }
    }

    #[test]
    fn a_password_inside_a_url_is_hidden() {
        assert_eq!(
            redact("url", "postgres://me:pw@host:5432/db"),
            "postgres://me:***@host:5432/db"
        );
        assert_eq!(
            redact("url", "jdbc:x://h/db?user=me&password=pw&ssl=true"),
            "jdbc:x://h/db?user=me&password=***&ssl=true"
        );
        assert_eq!(redact("url", "https://host/p@th:x"), "https://host/p@th:x");
        assert_eq!(
            redact("url", "https://host:80/p@th"),
            "https://host:80/p@th"
        );
        assert_eq!(
            redact("url", "postgres://me:p/w?@host:5432/db"),
            "postgres://me:***@host:5432/db"
        );
    }
}
