//! Functions of URLs, which are Java's: `parse_url` reads what `java.net.URI` takes, and
//! `url_encode` writes forms as `java.net.URLEncoder` does.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::exec_err;
use datafusion::logical_expr::ScalarUDF;

use super::define::{Function, Param, function};

use DataType::Utf8;
use Param::Text;

/// All of this module.
pub fn functions() -> Vec<Arc<ScalarUDF>> {
    let all = [
        parse_url("parse_url", true),
        parse_url("try_parse_url", false),
        function("url_encode", &[Text], Utf8, |call| {
            let text = call.text(0);
            call.texts(|row, out| Ok(text.get(row).map(|text| encode(text, out))))
        }),
        url_decode("url_decode", true),
        url_decode("try_url_decode", false),
    ];
    all.into_iter().map(Function::udf).collect()
}

/// `parse_url(url, part[, key])`; without `fails`, an invalid URL is NULL.
fn parse_url(name: &'static str, fails: bool) -> Function {
    function(name, &[Text; 3], Utf8, move |call| {
        let (url, part) = (call.text(0), call.text(1));
        let key = (call.len() > 2).then(|| call.text(2));
        call.texts(|row, out| {
            let (Some(text), Some(part)) = (url.get(row), part.get(row)) else {
                return Ok(None);
            };
            let Some(url) = Url::parse(text) else {
                if fails {
                    return exec_err!(
                        "[INVALID_URL] '{text}' is no URL; use try_parse_url where NULL will do"
                    );
                }
                return Ok(None);
            };
            let found = match &key {
                None if part == "FILE" => {
                    return Ok(url.path.map(|path| {
                        out.push_str(path);
                        if let Some(query) = url.query {
                            out.push('?');
                            out.push_str(query);
                        }
                    }));
                }
                None => url.part(part),
                Some(key) if part == "QUERY" => {
                    (key.get(row).zip(url.query)).and_then(|(key, query)| parameter(query, key))
                }
                Some(_) => None,
            };
            Ok(found.map(|found| out.push_str(found)))
        })
    })
    .optional(1)
}

fn parameter<'a>(query: &'a str, key: &str) -> Option<&'a str> {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(name, _)| *name == key).map(|(_, value)| value)
}

/// The parts of a URI by RFC 2396, as they are written.
#[derive(Default)]
struct Url<'a> {
    scheme: Option<&'a str>,
    authority: Option<&'a str>,
    user: Option<&'a str>,
    host: Option<&'a str>,
    /// There is none where no slash follows the scheme.
    path: Option<&'a str>,
    query: Option<&'a str>,
    fragment: Option<&'a str>,
}

impl<'a> Url<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let mut url = Self::default();
        let (mut rest, fragment) = split_at(text, '#');
        url.fragment = fragment;
        if let Some(colon) = rest
            .find(':')
            .filter(|at| !rest[..*at].contains(['/', '?']))
        {
            let scheme = &rest[..colon];
            let of_scheme = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
            if !scheme.starts_with(|c: char| c.is_ascii_alphabetic())
                || !scheme.chars().all(of_scheme)
            {
                return None;
            }
            url.scheme = Some(scheme);
            rest = &rest[colon + 1..];
            if rest.is_empty() {
                return None;
            }
            if !rest.starts_with('/') {
                return legal(rest, true)
                    .then_some(url)
                    .filter(Url::fragment_is_legal);
            }
        }
        let (hierarchy, query) = split_at(rest, '?');
        url.query = query;
        let mut path = hierarchy;
        if let Some(tail) = hierarchy.strip_prefix("//") {
            let end = tail.find('/').unwrap_or(tail.len());
            let authority = &tail[..end];
            path = &tail[end..];
            if authority.is_empty() && path.is_empty() {
                return None;
            }
            if !authority.is_empty() {
                url.authority = Some(authority);
                url.server(authority);
                if url.host.is_none() && !legal(authority, false) {
                    return None;
                }
            }
        }
        url.path = Some(path);
        let valid = legal(path, false) && query.is_none_or(|query| legal(query, true));
        valid.then_some(url).filter(Url::fragment_is_legal)
    }

    fn fragment_is_legal(&self) -> bool {
        self.fragment.is_none_or(|fragment| legal(fragment, true))
    }

    /// Finds user and host where the authority is `[user@]host[:port]`.
    fn server(&mut self, authority: &'a str) {
        let (user, server) = match authority.split_once('@') {
            Some((user, server)) => (Some(user), server),
            None => (None, authority),
        };
        let (host, port) = match server.rfind(']') {
            Some(end) => (&server[..=end], server[end + 1..].strip_prefix(':')),
            None => split_at(server, ':'),
        };
        let digits = port.is_none_or(|port| port.bytes().all(|b| b.is_ascii_digit()));
        if digits && is_host(host) && user.is_none_or(|user| legal(user, false)) {
            self.user = user;
            self.host = Some(host);
        }
    }

    fn part(&self, name: &str) -> Option<&'a str> {
        match name {
            "HOST" => self.host,
            "PATH" => self.path,
            "QUERY" => self.query,
            "REF" => self.fragment,
            "PROTOCOL" => self.scheme,
            "AUTHORITY" => self.authority,
            "USERINFO" => self.user,
            _ => None,
        }
    }
}

fn split_at(text: &str, by: char) -> (&str, Option<&str>) {
    match text.split_once(by) {
        Some((head, tail)) => (head, Some(tail)),
        None => (text, None),
    }
}

/// Whether there are only characters that a URI may have, `%` before two hexadecimal digits only.
fn legal(text: &str, brackets: bool) -> bool {
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let fine = match byte {
            b'%' => {
                let hex = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_hexdigit());
                hex(bytes.next()) && hex(bytes.next())
            }
            b'[' | b']' => brackets,
            b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' | b'#' => false,
            byte => byte > b' ' && byte != 0x7F,
        };
        if !fine {
            return false;
        }
    }
    !text
        .chars()
        .any(|c| !c.is_ascii() && (c.is_control() || c.is_whitespace()))
}

/// A name, of which the last label begins with a letter, or an address.
fn is_host(host: &str) -> bool {
    if let Some(address) = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        return address.parse::<std::net::Ipv6Addr>().is_ok();
    }
    if host.parse::<std::net::Ipv4Addr>().is_ok() {
        return true;
    }
    let labels = host.strip_suffix('.').unwrap_or(host).split('.');
    let valid = |label: &str| {
        let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        !label.is_empty()
            && label.bytes().all(inner)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let last = labels.clone().next_back().unwrap_or_default();
    last.starts_with(|c: char| c.is_ascii_alphabetic()) && labels.into_iter().all(valid)
}

fn encode(text: &str, out: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text.bytes() {
        match byte {
            b' ' => out.push('+'),
            b'.' | b'-' | b'*' | b'_' => out.push(char::from(byte)),
            byte if byte.is_ascii_alphanumeric() => out.push(char::from(byte)),
            byte => {
                out.push('%');
                out.push(char::from(DIGITS[usize::from(byte >> 4)]));
                out.push(char::from(DIGITS[usize::from(byte & 15)]));
            }
        }
    }
}

/// `None` where a `%` does not stand before two hexadecimal digits.
fn decode(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                (digit()? * 16 + digit()?) as u8
            }
            byte => byte,
        });
    }
    Some(out)
}

/// `url_decode(text)`; without `fails`, what cannot be decoded is NULL.
fn url_decode(name: &'static str, fails: bool) -> Function {
    function(name, &[Text], Utf8, move |call| {
        let text = call.text(0);
        call.texts(|row, out| {
            let Some(text) = text.get(row) else {
                return Ok(None);
            };
            match decode(text) {
                Some(bytes) => out.push_str(&String::from_utf8_lossy(&bytes)),
                None if fails => {
                    return exec_err!(
                        "[CANNOT_DECODE_URL] '{text}' has a % without two hexadecimal digits; use try_url_decode where NULL will do"
                    );
                }
                None => return Ok(None),
            }
            Ok(Some(()))
        })
    })
}
