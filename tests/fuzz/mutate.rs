//! Mutations of bytes that know where words begin and end.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

/// No input grows beyond this.
const LONGEST: usize = 64 << 10;

/// Makes inputs out of a corpus, the same ones for the same seed.
pub(crate) struct Mutator<'a> {
    random: StdRng,
    corpus: &'a [Vec<u8>],
}

impl<'a> Mutator<'a> {
    pub(crate) fn new(seed: u64, corpus: &'a [Vec<u8>]) -> Self {
        Self {
            random: StdRng::seed_from_u64(seed),
            corpus,
        }
    }

    /// An entry of the corpus, changed in a few places.
    pub(crate) fn next(&mut self) -> Vec<u8> {
        let mut input = self.entry().to_vec();
        for _ in 0..self.random.random_range(1..=4) {
            self.mutate(&mut input);
            input.truncate(LONGEST);
        }
        input
    }

    fn entry(&mut self) -> &'a [u8] {
        &self.corpus[self.random.random_range(0..self.corpus.len())]
    }

    fn mutate(&mut self, input: &mut Vec<u8>) {
        let piece = self.piece(input);
        match self.random.random_range(0..13) {
            0 => input.truncate(piece.start),
            1 | 2 => drop(input.drain(piece)),
            3 => {
                let (from, to) = (input[piece.clone()].to_vec(), self.piece(input).start);
                input.splice(to..to, from);
            }
            // One word in the place of another.
            4 => {
                let word = self.word(input);
                input.splice(piece, word);
            }
            5 | 6 => {
                let other = self.entry();
                let theirs = self.piece(other);
                input.splice(piece, other[theirs].iter().copied());
            }
            7 => {
                let byte = self.random.random();
                let at = self.random.random_range(0..=input.len());
                if self.random.random_bool(0.5) && at < input.len() {
                    input[at] = byte;
                } else {
                    input.insert(at, byte);
                }
            }
            // Over and over.
            8 => {
                let times = self.many();
                let again = input[piece.clone()].repeat(times.min(LONGEST / piece.len().max(1)));
                input.splice(piece, again);
            }
            // Deep inside brackets.
            9 => {
                const NESTS: [(&str, &str); 9] = [
                    ("(", ")"),
                    ("[", "]"),
                    ("{\"a\":", "}"),
                    ("NOT ", ""),
                    ("- ", ""),
                    ("abs(", ")"),
                    ("(SELECT * FROM (", "))"),
                    ("CASE WHEN true THEN ", " END"),
                    ("ARRAY<", ">"),
                ];
                let (open, close) = NESTS[self.random.random_range(0..NESTS.len())];
                let times = self.many();
                let inner = String::from_utf8_lossy(&input[piece.clone()]).into_owned();
                let nested = format!("{}{inner}{}", open.repeat(times), close.repeat(times));
                input.splice(piece, nested.into_bytes());
            }
            10 | 11 => {
                const NUMBERS: [&str; 12] = [
                    "0",
                    "-1",
                    "9223372036854775807",
                    "-9223372036854775808",
                    "99999999999999999999",
                    "1e400",
                    "0.1",
                    "2147483648",
                    "1000000000000",
                    "NaN",
                    "00",
                    "5",
                ];
                let number = NUMBERS[self.random.random_range(0..NUMBERS.len())];
                let digits = input.iter().position(u8::is_ascii_digit);
                let start = digits
                    .filter(|_| self.random.random_bool(0.7))
                    .unwrap_or(piece.start);
                let end = start
                    + input[start..]
                        .iter()
                        .take_while(|b| b.is_ascii_digit())
                        .count();
                input.splice(start..end, number.bytes());
            }
            _ => {
                const ODD: [&str; 12] = [
                    "\u{0}",
                    "\u{FEFF}",
                    "'",
                    "\"",
                    "`",
                    "\\",
                    "é",
                    "日本",
                    "\u{1F600}",
                    "\r\n",
                    ";",
                    "--",
                ];
                let odd = ODD[self.random.random_range(0..ODD.len())];
                input.splice(piece, odd.bytes());
            }
        }
    }

    fn many(&mut self) -> usize {
        [2, 10, 60, 1000, 20_000][self.random.random_range(0..5)]
    }

    /// A stretch of words or bytes, short ones more often.
    fn piece(&mut self, input: &[u8]) -> std::ops::Range<usize> {
        let edges: Vec<usize> = (0..=input.len())
            .filter(|at| {
                *at == 0 || *at == input.len() || class(input[*at]) != class(input[at - 1])
            })
            .collect();
        let from = self.random.random_range(0..edges.len());
        let longest = [1, 1, 3, 12][self.random.random_range(0..4)];
        let to = (from + self.random.random_range(0..=longest)).min(edges.len() - 1);
        edges[from]..edges[to]
    }

    /// A word of the input itself, or of another.
    fn word(&mut self, input: &[u8]) -> Vec<u8> {
        let source = if self.random.random_bool(0.5) {
            input
        } else {
            self.entry()
        };
        let piece = self.piece(source);
        source[piece].to_vec()
    }
}

/// What kind of letter it is: words are stretches of one kind.
fn class(byte: u8) -> u8 {
    match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'_' | 128.. => 0,
        b'0'..=b'9' => 1,
        b' ' | b'\t' | b'\n' | b'\r' => 2,
        other => other,
    }
}
