//! How a password is proven without being sent: SCRAM-SHA-256 (RFC 5802, RFC 7677) and `PostgreSQL`'s older MD5.
//!
//! A password is taken as its bytes are: one that is not ASCII is not normalised first (`SASLprep`), which the
//! usual keyboards make no difference to.

use md5::Md5;
use sha2::{Digest, Sha256};

use crate::format::casts::decode_base64;
use crate::sinks::base64;

/// The mechanism's name.
pub(super) const SCRAM_SHA_256: &str = "SCRAM-SHA-256";

/// No channel binding, which we do not know.
const HEADER: &str = "n,,";

/// The most rounds that a server may ask for: more would only keep us busy.
const MOST_ROUNDS: u32 = 10_000_000;

/// An exchange that has begun.
pub(super) struct Scram {
    first: String,
    nonce: String,
}

/// What the server must answer to show that it knows the password, too.
pub(super) struct Expected([u8; 32]);

impl Scram {
    /// Begins with a nonce that was never used before. The server knows the user already.
    pub(super) fn new(nonce: &str) -> Self {
        Self {
            first: format!("n=,r={nonce}"),
            nonce: nonce.to_owned(),
        }
    }

    /// What is said first.
    pub(super) fn first(&self) -> String {
        format!("{HEADER}{}", self.first)
    }

    /// The proof that answers the server's first message; `None` where that makes no sense.
    pub(super) fn prove(&self, password: &[u8], server: &str) -> Option<(String, Expected)> {
        let mut parts = server.split(',');
        let nonce = parts.next()?.strip_prefix("r=")?;
        let written = parts.next()?.strip_prefix("s=")?;
        let rounds: u32 = parts.next()?.strip_prefix("i=")?.parse().ok()?;
        let mut salt = Vec::new();
        let sound = nonce.starts_with(&self.nonce) && nonce.len() > self.nonce.len();
        if !sound || rounds > MOST_ROUNDS || !decode_base64(written.as_bytes(), &mut salt) {
            return None;
        }
        let salted = stretch(password, &salt, rounds);
        let key = hmac(&salted, b"Client Key");
        let last = format!("c={},r={nonce}", encoded(HEADER.as_bytes()));
        let all = format!("{},{server},{last}", self.first);
        let mut proof = key;
        let signature = hmac(&Sha256::digest(key), all.as_bytes());
        proof.iter_mut().zip(signature).for_each(|(p, s)| *p ^= s);
        let expected = hmac(&hmac(&salted, b"Server Key"), all.as_bytes());
        Some((format!("{last},p={}", encoded(&proof)), Expected(expected)))
    }
}

impl Expected {
    /// Whether the server's last message shows it.
    pub(super) fn is(&self, server: &str) -> bool {
        server.strip_prefix("v=") == Some(encoded(&self.0).as_str())
    }
}

fn encoded(bytes: &[u8]) -> String {
    let mut text = String::new();
    base64(&mut text, bytes);
    text
}

fn hmac(key: &[u8], message: &[u8]) -> [u8; 32] {
    const BLOCK: usize = 64;
    let mut block = [0; BLOCK];
    if key.len() > BLOCK {
        block[..32].copy_from_slice(&Sha256::digest(key));
    } else {
        block[..key.len()].copy_from_slice(key);
    }
    let padded = |pad: u8| block.map(|byte| byte ^ pad);
    let inner = Sha256::new()
        .chain_update(padded(0x36))
        .chain_update(message);
    let outer = Sha256::new()
        .chain_update(padded(0x5c))
        .chain_update(inner.finalize());
    outer.finalize().into()
}

/// PBKDF2 with one block.
fn stretch(password: &[u8], salt: &[u8], rounds: u32) -> [u8; 32] {
    let mut last = hmac(password, &[salt, &[0, 0, 0, 1]].concat());
    let mut all = last;
    for _ in 1..rounds {
        last = hmac(password, &last);
        all.iter_mut().zip(last).for_each(|(a, l)| *a ^= l);
    }
    all
}

/// The answer to a server that asks for MD5.
pub(super) fn md5_answer(user: &str, password: &str, salt: [u8; 4]) -> String {
    let hex = |bytes: &[u8]| -> String { bytes.iter().map(|b| format!("{b:02x}")).collect() };
    let inner = Md5::new()
        .chain_update(password)
        .chain_update(user)
        .finalize();
    let outer = Md5::new()
        .chain_update(hex(&inner))
        .chain_update(salt)
        .finalize();
    format!("md5{}", hex(&outer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exchange_of_rfc_7677() {
        // There the user's name is said again; PostgreSQL wants none.
        let scram = Scram {
            first: "n=user,r=rOprNGfwEbeRWgbNEkqO".into(),
            nonce: "rOprNGfwEbeRWgbNEkqO".into(),
        };
        let server = "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096";
        let (proof, expected) = scram.prove(b"pencil", server).expect("a proof");
        assert_eq!(
            proof,
            "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
        );
        assert!(expected.is("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="));
        assert!(!expected.is("v=7rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="));
    }

    #[test]
    fn a_server_that_changes_the_nonce_is_none() {
        let scram = Scram::new("mine");
        for server in [
            "r=other,s=W22Z,i=1",
            "r=mine,s=W22Z,i=1",
            "r=mine2,s=!,i=1",
            "e=no",
        ] {
            assert!(scram.prove(b"x", server).is_none(), "{server}");
        }
    }
}
