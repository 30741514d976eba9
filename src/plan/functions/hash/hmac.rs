//! `hmac`: a hash that only who has the key can make (RFC 2104).

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray};
use arrow::datatypes::{DataType, Field};
use datafusion::common::config::ConfigOptions;
use datafusion::common::{Result, ScalarValue, exec_err, internal_err};
use datafusion::functions::crypto;
use datafusion::logical_expr::{ColumnarValue, ScalarFunctionArgs};
use datafusion_spark::function::hash::sha1;

use crate::plan::functions::define::{Call, Function, Param, function};

/// `hmac(key, message[, algorithm])`, with SHA-256 where no algorithm is named.
pub(super) fn hmac() -> Function {
    const PARAMS: &[Param] = &[Param::Bytes, Param::Bytes, Param::Text];
    function("hmac", PARAMS, DataType::Binary, compute).optional(1)
}

fn compute(call: &Call) -> Result<ArrayRef> {
    let (keys, messages) = (call.bytes(0), call.bytes(1));
    let named = (call.len() == 3).then(|| call.text(2));
    let algorithms = (0..call.rows())
        .map(|row| match &named {
            None => Ok(Some(Algorithm::Sha256)),
            Some(named) => named.get(row).map(Algorithm::named).transpose(),
        })
        .collect::<Result<Vec<_>>>()?;
    let mut codes: Vec<Option<Vec<u8>>> = vec![None; call.rows()];
    for algorithm in Algorithm::ALL {
        let mut rows = vec![];
        let (mut inner, mut outer) = (vec![], vec![]);
        for (row, asked) in algorithms.iter().enumerate() {
            let (Some(key), Some(message)) = (keys.get(row), messages.get(row)) else {
                continue;
            };
            if *asked == Some(algorithm) {
                rows.push(row);
                let key = algorithm.block(key)?;
                inner.push([&padded(&key, 0x36), message].concat());
                outer.push(padded(&key, 0x5c));
            }
        }
        if rows.is_empty() {
            continue;
        }
        let inner = algorithm.hash(inner)?;
        let whole = outer
            .iter()
            .zip(inner)
            .map(|(outer, inner)| [&outer[..], &inner[..]].concat());
        for (row, code) in rows.into_iter().zip(algorithm.hash(whole.collect())?) {
            codes[row] = Some(code);
        }
    }
    Ok(Arc::new(codes.into_iter().collect::<BinaryArray>()))
}

fn padded(key: &[u8], pad: u8) -> Vec<u8> {
    key.iter().map(|byte| byte ^ pad).collect()
}

/// The hash within.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Algorithm {
    Md5,
    Sha1,
    Sha224,
    Sha256,
    Sha384,
    Sha512,
}

impl Algorithm {
    const ALL: [Self; 6] = [
        Self::Md5,
        Self::Sha1,
        Self::Sha224,
        Self::Sha256,
        Self::Sha384,
        Self::Sha512,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Md5 => "md5",
            Self::Sha1 => "sha1",
            Self::Sha224 => "sha224",
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        }
    }

    fn named(name: &str) -> Result<Self> {
        let plain = name.to_ascii_lowercase().replace('-', "");
        let found = Self::ALL.into_iter().find(|known| known.name() == plain);
        if let Some(algorithm) = found {
            return Ok(algorithm);
        }
        exec_err!(
            "[INVALID_PARAMETER_VALUE.HMAC_ALGORITHM] hmac knows no algorithm '{name}'; use 'SHA-224', 'SHA-256', 'SHA-384', 'SHA-512', 'SHA-1' or 'MD5'"
        )
    }

    /// The key as long as a block of the hash; one that is longer is hashed.
    fn block(self, key: &[u8]) -> Result<Vec<u8>> {
        let length = match self {
            Self::Sha384 | Self::Sha512 => 128,
            _ => 64,
        };
        if key.is_empty() {
            return exec_err!(
                "[INVALID_PARAMETER_VALUE.HMAC_CRYPTO_ERROR] the key of hmac is empty; nullif(key, '') gives NULL for it"
            );
        }
        let mut block = if key.len() > length {
            self.hash(vec![key.to_vec()])?.concat()
        } else {
            key.to_vec()
        };
        block.resize(length, 0);
        Ok(block)
    }

    /// The hashes of texts.
    fn hash(self, texts: Vec<Vec<u8>>) -> Result<Vec<Vec<u8>>> {
        let rows = texts.len();
        let texts: ArrayRef = Arc::new(BinaryArray::from_iter_values(texts));
        let field = |data_type| Arc::new(Field::new("", data_type, false));
        let mut args = ScalarFunctionArgs {
            args: vec![ColumnarValue::Array(texts)],
            arg_fields: vec![field(DataType::Binary)],
            number_rows: rows,
            return_field: field(DataType::Binary),
            config_options: Arc::new(ConfigOptions::default()),
        };
        let hashes = if self == Self::Sha1 {
            args.return_field = field(DataType::Utf8);
            sha1().invoke_with_args(args)?
        } else {
            args.args.push(ScalarValue::from(self.name()).into());
            args.arg_fields.push(field(DataType::Utf8));
            crypto::digest().invoke_with_args(args)?
        };
        let hashes = hashes.into_array(rows)?;
        match hashes.data_type() {
            DataType::Utf8 => Ok(hashes
                .as_string::<i32>()
                .iter()
                .flatten()
                .map(bytes)
                .collect()),
            DataType::Binary => {
                let hashes = hashes.as_binary::<i32>().iter();
                Ok(hashes.flatten().map(<[u8]>::to_vec).collect())
            }
            other => internal_err!("a hash that is {other}"),
        }
    }
}

/// The bytes that are written in hexadecimal digits.
fn bytes(digits: &str) -> Vec<u8> {
    let pairs = (0..digits.len() / 2).filter_map(|at| digits.get(at * 2..at * 2 + 2));
    pairs
        .filter_map(|pair| u8::from_str_radix(pair, 16).ok())
        .collect()
}
