//! Random values and numbers of rows: functions of where a row was read.
//!
//! A replay after a crash must give the rows that were given before. So `rand()` and its like draw
//! nothing: their value is a hash of a seed and of the row's position ([`crate::row::origin`]).
//! Without a seed it is the epoch's salt (`Supplied::Salt`) with the number of the call in the
//! query, so that two calls differ; with a seed equal calls give equal values, as in Spark.
//!
//! SQL knows them as volatile functions, which no optimiser folds or moves. On the way into a plan
//! [`drawn`] replaces them by functions of all that they depend on; in a batch [`running`] stands
//! for the position.

use std::any::Any;
use std::f64::consts::TAU;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, Float64Array, Int32Array, Int64Array, ListArray,
    StringArray, StringBuilder, UInt32Array, new_null_array,
};
use arrow::buffer::OffsetBuffer;
use arrow::compute::{cast, take};
use arrow::datatypes::{DataType, Float64Type, Int32Type, Int64Type};
use datafusion::common::{Result, ScalarValue, exec_err, internal_err, plan_err};
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, lit,
};
use uuid::Builder;

use super::define::{Param, unexpected};
use crate::plan::text;
use crate::row::origin::Place;
use crate::row::{Origin, hash};

/// What is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Draw {
    Rand,
    Randn,
    Uuid,
    Shuffle,
    Uniform,
    RandStr,
    Id,
    Partition,
    /// The position itself: what orders rows that are of one time.
    Position,
}

impl Draw {
    const fn name(self) -> &'static str {
        match self {
            Self::Rand => "rand",
            Self::Randn => "randn",
            Self::Uuid => "uuid",
            Self::Shuffle => "shuffle",
            Self::Uniform => "uniform",
            Self::RandStr => "randstr",
            Self::Id => "monotonically_increasing_id",
            Self::Partition => "spark_partition_id",
            Self::Position => "__position",
        }
    }

    /// Whether its last argument may be a seed.
    const fn is_seeded(self) -> bool {
        !matches!(self, Self::Id | Self::Partition | Self::Position)
    }

    /// How many arguments stand before the seed.
    const fn own(self) -> usize {
        match self {
            Self::Uniform => 2,
            Self::Shuffle | Self::RandStr => 1,
            _ => 0,
        }
    }

    /// What argument `index`, one of its own, is cast to.
    fn taken(self, index: usize, given: &DataType) -> Result<DataType> {
        match (self, given) {
            (Self::Shuffle, DataType::List(_)) => Ok(given.clone()),
            (Self::Shuffle, DataType::Null) => Ok(DataType::new_list(DataType::Null, true)),
            (Self::Shuffle, _) => unexpected(self.name(), index, "ARRAY", given),
            (Self::RandStr, _) => Param::Int.coerce(self.name(), index, given),
            (_, DataType::Null) => Ok(DataType::Float64),
            (_, number) if number.is_numeric() => Ok(number.clone()),
            _ => unexpected(self.name(), index, "number", given),
        }
    }

    fn gives(self, types: &[DataType]) -> Result<DataType> {
        Ok(match self {
            Self::Rand | Self::Randn => DataType::Float64,
            Self::Uuid | Self::RandStr => DataType::Utf8,
            Self::Uniform => match types {
                [least, most, ..] => uniform_type(least, most),
                _ => return internal_err!("uniform without bounds"),
            },
            Self::Id => DataType::Int64,
            Self::Partition => DataType::Int32,
            Self::Position => DataType::Binary,
            Self::Shuffle => match types.first() {
                Some(array) => array.clone(),
                None => return internal_err!("shuffle without an array"),
            },
        })
    }
}

/// The functions of SQL.
pub fn functions() -> Vec<Arc<ScalarUDF>> {
    let all = [
        Draw::Rand,
        Draw::Randn,
        Draw::Uuid,
        Draw::Shuffle,
        Draw::Uniform,
        Draw::RandStr,
        Draw::Id,
        Draw::Partition,
    ];
    all.into_iter().map(asked).collect()
}

/// The position of a row, as a call that [`drawn`] replaces.
pub fn position() -> Expr {
    static FUNCTION: LazyLock<Arc<ScalarUDF>> = LazyLock::new(|| asked(Draw::Position));
    FUNCTION.call(vec![])
}

/// Whether the call is one that [`drawn`] replaces.
pub fn is_asked(expr: &Expr) -> bool {
    matches!(expr, Expr::ScalarFunction(call) if asked_by(call).is_some())
}

/// Whether the call is a replacement by [`drawn`].
pub fn is_drawn(call: &ScalarFunction) -> bool {
    let function: &dyn Any = &**call.func.inner();
    function.is::<Drawn>()
}

/// What stands for a call of these functions where `position` is the row's position; anything else
/// is `None`. `salt` gives what stands for a seed that is not given, and the number of the call.
pub fn drawn(
    expr: &Expr,
    position: Expr,
    salt: impl FnOnce() -> (Expr, u64),
) -> Result<Option<Expr>> {
    let Expr::ScalarFunction(call) = expr else {
        return Ok(None);
    };
    let Some(draw) = asked_by(call) else {
        return Ok(None);
    };
    if draw == Draw::Position {
        return Ok(Some(position));
    }
    let own = draw.own();
    let mut args: Vec<Expr> = call.args.iter().take(own).cloned().collect();
    let mut stream = 0;
    if draw.is_seeded() {
        args.push(match call.args.get(own) {
            None => {
                let (salt, number) = salt();
                stream = number;
                salt
            }
            Some(seed) => lit(constant(seed, expr)?),
        });
    }
    args.push(position);
    let drawn = ScalarUDF::new_from_impl(Drawn {
        draw,
        stream,
        signature: Signature::any(args.len(), Volatility::Immutable),
    });
    Ok(Some(Expr::ScalarFunction(ScalarFunction::new_udf(
        Arc::new(drawn),
        args,
    ))))
}

/// The value of a seed; NULL is 0, as in Spark.
fn constant(seed: &Expr, call: &Expr) -> Result<i64> {
    match seed {
        Expr::Alias(alias) => constant(&alias.expr, call),
        Expr::Literal(ScalarValue::Int64(value), _) => Ok(value.unwrap_or(0)),
        Expr::Literal(value, _) if value.is_null() => Ok(0),
        other => plan_err!(
            "[SEED_EXPRESSION_IS_UNFOLDABLE] the seed {} of {} must be a constant; leave it out, or hash the column itself: xxhash64(column)",
            text::expression(other),
            text::expression(call)
        ),
    }
}

/// Positions for the rows of a batch: the rows that one such expression meets are numbered.
pub fn running() -> Expr {
    let running = ScalarUDF::new_from_impl(Running {
        next: Arc::default(),
        signature: Signature::nullary(Volatility::Volatile),
    });
    Expr::ScalarFunction(ScalarFunction::new_udf(Arc::new(running), vec![]))
}

fn asked(draw: Draw) -> Arc<ScalarUDF> {
    let signature = match draw {
        Draw::Id | Draw::Partition | Draw::Position => Signature::nullary(Volatility::Volatile),
        _ => Signature::user_defined(Volatility::Volatile),
    };
    let aliases = match draw {
        Draw::Rand => vec!["random".into()],
        _ => vec![],
    };
    Arc::new(ScalarUDF::new_from_impl(Asked {
        draw,
        aliases,
        signature,
    }))
}

fn asked_by(call: &ScalarFunction) -> Option<Draw> {
    let function: &dyn Any = &**call.func.inner();
    Some(function.downcast_ref::<Asked>()?.draw)
}

/// A function as SQL calls it.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Asked {
    draw: Draw,
    aliases: Vec<String>,
    signature: Signature,
}

impl ScalarUDFImpl for Asked {
    fn name(&self) -> &str {
        self.draw.name()
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let name = self.name();
        let own = self.draw.own();
        if types.len() < own || types.len() > own + 1 {
            return plan_err!(
                "[WRONG_NUM_ARGS.WITHOUT_SUGGESTION] {name} takes {own} to {} arguments, not {}",
                own + 1,
                types.len()
            );
        }
        let mut coerced = Vec::with_capacity(types.len());
        for (index, given) in types.iter().enumerate() {
            coerced.push(match given {
                _ if index < own => self.draw.taken(index, given)?,
                DataType::Null
                | DataType::Int8
                | DataType::Int16
                | DataType::Int32
                | DataType::Int64 => DataType::Int64,
                _ => return unexpected(name, index, "INT or BIGINT", given),
            });
        }
        Ok(coerced)
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.draw.gives(types)
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        exec_err!(
            "{}() was not replaced by a function of the row's position",
            self.name()
        )
    }
}

/// A function of a seed and a position, the last two arguments; without a seed the last one.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Drawn {
    draw: Draw,
    /// Calls of different streams differ.
    stream: u64,
    signature: Signature,
}

impl ScalarUDFImpl for Drawn {
    fn name(&self) -> &str {
        self.draw.name()
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.draw.gives(types)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let arrays = (args.args.iter())
            .map(|arg| arg.to_array(rows))
            .collect::<Result<Vec<ArrayRef>>>()?;
        let Some((positions, rest)) = arrays.split_last() else {
            return internal_err!("{} without a position", self.name());
        };
        let Some(positions) = positions.as_binary_opt::<i32>() else {
            return internal_err!("{} takes a position as bytes", self.name());
        };
        let dice = || self.dice(rest, positions);
        Ok(ColumnarValue::Array(match self.draw {
            Draw::Rand => Arc::new(dice()?.map(Dice::unit).collect::<Float64Array>()),
            Draw::Randn => Arc::new(dice()?.map(Dice::normal).collect::<Float64Array>()),
            Draw::Uuid => {
                let texts = dice()?.map(|dice| Some(dice.uuid()));
                Arc::new(texts.collect::<StringArray>())
            }
            Draw::Shuffle => shuffled(&arrays[0], dice()?)?,
            Draw::Uniform => {
                let output = args.return_field.data_type();
                between(&arrays[0], &arrays[1], dice()?, output)?
            }
            Draw::RandStr => texts(&arrays[0], dice()?)?,
            Draw::Id => {
                let ids = positions.iter().flatten().map(id);
                Arc::new(Int64Array::from(ids.collect::<Result<Vec<_>>>()?))
            }
            Draw::Partition => {
                let splits = positions.iter().flatten().map(split);
                Arc::new(Int32Array::from(splits.collect::<Result<Vec<_>>>()?))
            }
            Draw::Position => return internal_err!("a position is no function of itself"),
        }))
    }
}

impl Drawn {
    /// The dice of each row.
    fn dice<'a>(
        &self,
        rest: &[ArrayRef],
        positions: &'a BinaryArray,
    ) -> Result<impl Iterator<Item = Dice> + use<'a>> {
        let seeds = rest.last().and_then(|s| s.as_primitive_opt::<Int64Type>());
        let Some(seeds) = seeds.cloned() else {
            return internal_err!("{} without a seed", self.draw.name());
        };
        let mut bytes = vec![0; 8];
        bytes.extend(self.stream.to_le_bytes());
        bytes.extend(self.draw.name().as_bytes());
        let fixed = bytes.len();
        Ok(positions.iter().enumerate().map(move |(row, position)| {
            bytes.truncate(fixed);
            bytes[..8].copy_from_slice(&seeds.value(row).to_le_bytes());
            bytes.extend(position.unwrap_or_default());
            let first = hash(&bytes);
            bytes[0] ^= 1;
            Dice(first, hash(&bytes))
        }))
    }
}

/// What decides all values of one row.
#[derive(Clone, Copy, Debug)]
struct Dice(u64, u64);

impl Dice {
    /// From 0 to 1, which it never is.
    fn unit(self) -> f64 {
        fraction(self.0)
    }

    /// Of the standard normal distribution, after Box and Muller.
    fn normal(self) -> f64 {
        let radius = (-2.0 * (1.0 - fraction(self.0)).ln()).sqrt();
        radius * (TAU * fraction(self.1)).cos()
    }

    fn uuid(self) -> String {
        let bits = (u128::from(self.0) << 64) | u128::from(self.1);
        let bytes = bits.to_be_bytes();
        Builder::from_random_bytes(bytes).into_uuid().to_string()
    }

    /// The next of many numbers (`SplitMix64`, Steele, Lea and Flood).
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// The next of many numbers, less than `bound`.
    fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.next()) * bound as u128) >> 64) as usize
    }
}

/// The 53 upper bits as a number from 0 to 1.
fn fraction(bits: u64) -> f64 {
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}

/// Of two bounds' types the one of what lies between them, as Spark has it.
fn uniform_type(least: &DataType, most: &DataType) -> DataType {
    let either = |wanted: DataType| [least, most].contains(&&wanted);
    match (least, most) {
        _ if either(DataType::Float64) => DataType::Float64,
        _ if either(DataType::Float32) => DataType::Float32,
        (DataType::Decimal128(a, b), DataType::Decimal128(c, d)) => {
            let holds = i16::from(*a) - i16::from(*b) >= i16::from(*c) - i16::from(*d) && b >= d;
            if holds { least.clone() } else { most.clone() }
        }
        (DataType::Decimal128(..), _) => least.clone(),
        (_, DataType::Decimal128(..)) => most.clone(),
        _ if least.primitive_width() > most.primitive_width() => least.clone(),
        _ => most.clone(),
    }
}

/// A number from the first bound on to the other, which it never is; whole ones are cut.
fn between(
    least: &ArrayRef,
    most: &ArrayRef,
    dice: impl Iterator<Item = Dice>,
    output: &DataType,
) -> Result<ArrayRef> {
    let (least, most) = (
        cast(least, &DataType::Float64)?,
        cast(most, &DataType::Float64)?,
    );
    let (least, most) = (
        least.as_primitive::<Float64Type>(),
        most.as_primitive::<Float64Type>(),
    );
    let numbers: Float64Array = (least.iter().zip(most).zip(dice))
        .map(|((least, most), dice)| Some(least? + dice.unit() * (most? - least?)))
        .collect();
    Ok(cast(&numbers, output)?)
}

/// The longest text that is made up.
const MOST_CHARACTERS: i32 = 1 << 20;

/// Texts of digits and letters, each as long as asked for.
fn texts(lengths: &ArrayRef, dice: impl Iterator<Item = Dice>) -> Result<ArrayRef> {
    const CHARACTERS: &[u8] = b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    let lengths = lengths.as_primitive::<Int32Type>().iter();
    let mut texts = StringBuilder::new();
    let mut text = String::new();
    for (length, mut dice) in lengths.zip(dice) {
        let length = length.unwrap_or(0);
        if !(0..=MOST_CHARACTERS).contains(&length) {
            return exec_err!(
                "[DATATYPE_MISMATCH.VALUE_OUT_OF_RANGE] the length of randstr must be between 0 and {MOST_CHARACTERS}, not {length}"
            );
        }
        text.clear();
        text.extend((0..length).map(|_| char::from(CHARACTERS[dice.below(CHARACTERS.len())])));
        texts.append_value(&text);
    }
    Ok(Arc::new(texts.finish()))
}

/// Each list with its elements in another order (Fisher and Yates).
fn shuffled(lists: &ArrayRef, dice: impl Iterator<Item = Dice>) -> Result<ArrayRef> {
    let Some(list) = lists.as_list_opt::<i32>() else {
        return internal_err!("shuffle takes an ARRAY, not {}", lists.data_type());
    };
    let DataType::List(field) = list.data_type() else {
        return internal_err!("a list that is none");
    };
    if list.null_count() == list.len() {
        return Ok(new_null_array(list.data_type(), list.len()));
    }
    let mut order: Vec<u32> = vec![];
    let mut lengths = Vec::with_capacity(list.len());
    for (row, mut dice) in dice.enumerate() {
        let start = order.len();
        if list.is_valid(row) {
            let range = list.value_offsets()[row]..list.value_offsets()[row + 1];
            order.extend(range.map(|element| element as u32));
            let elements = &mut order[start..];
            for last in (1..elements.len()).rev() {
                elements.swap(last, dice.below(last + 1));
            }
        }
        lengths.push(order.len() - start);
    }
    let values = take(list.values(), &UInt32Array::from(order), None)?;
    Ok(Arc::new(ListArray::try_new(
        Arc::clone(field),
        OffsetBuffer::from_lengths(lengths),
        values,
        list.nulls().cloned(),
    )?))
}

/// How many bits of an id say what, from the greatest on: the source, the split, the row, and which
/// of those that came of the row.
const SOURCE_BITS: u32 = 5;
const SPLIT_BITS: u32 = 14;
const ROW_BITS: u32 = 28;
const ORDINAL_BITS: u32 = 16;

/// A number that is different for each row of an epoch, and greater for later rows of a split.
fn id(position: &[u8]) -> Result<i64> {
    let place = place(position)?;
    let parts = [
        (u64::from(place.source), SOURCE_BITS),
        (u64::from(place.split), SPLIT_BITS),
        (place.row, ROW_BITS),
        (u64::from(place.ordinal), ORDINAL_BITS),
    ];
    let mut id = 0;
    for (part, bits) in parts {
        if part >> bits != 0 {
            return exec_err!(
                "monotonically_increasing_id() has no number for row {} of split {} any more; use uuid(), or read less at once",
                place.row,
                place.split
            );
        }
        id = (id << bits) | part;
    }
    Ok(id.cast_signed())
}

fn split(position: &[u8]) -> Result<i32> {
    let split = place(position)?.split;
    Ok(i32::try_from(split).unwrap_or(i32::MAX))
}

fn place(position: &[u8]) -> Result<Place> {
    if let Some(place) = Place::of(position) {
        Ok(place)
    } else {
        internal_err!("{position:?} is no position")
    }
}

/// See [`running`]. Each is itself only.
#[derive(Debug)]
struct Running {
    next: Arc<AtomicU64>,
    signature: Signature,
}

impl PartialEq for Running {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.next, &other.next)
    }
}
impl Eq for Running {}
impl Hash for Running {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Arc::as_ptr(&self.next).hash(state);
    }
}

impl ScalarUDFImpl for Running {
    fn name(&self) -> &'static str {
        "__running"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Binary)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let rows = args.number_rows;
        let first = self.next.fetch_add(rows as u64, Ordering::Relaxed);
        let origin = Origin::contiguous(0, "".into(), 0, first);
        Ok(ColumnarValue::Array(Arc::new(origin.positions(0, rows))))
    }
}
