//! How scalar functions of ours are declared: what one takes, what it gives, and how a batch of
//! calls is computed.
//!
//! ```ignore
//! function("repeat", &[Param::Text, Param::Int], DataType::Utf8, |call| {
//!     let (text, times) = (call.text(0), call.ints(1));
//!     call.texts(|row, out| {
//!         let (Some(text), Some(times)) = (text.get(row), times.get(row)) else {
//!             return Ok(None);
//!         };
//!         (0..times).for_each(|_| out.push_str(text));
//!         Ok(Some(()))
//!     })
//! })
//! .udf()
//! ```
//!
//! Arguments are cast to what the function takes where Spark casts implicitly (ANSI): numbers to
//! numbers, strings to what is wanted, anything but nested values to STRING. The casts are the
//! planner's, so a value that does not fit is the cast's error. A constant argument arrives as an
//! array of one value, which [`Column::get`] gives for every row.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayAccessor, ArrayRef, ArrowPrimitiveType, AsArray, BinaryArray, BinaryBuilder,
    BooleanArray, BooleanBuilder, Float64Array, Int32Array, Int64Array, PrimitiveArray,
    PrimitiveBuilder, StringArray, StringBuilder, UInt32Array,
};
use arrow::compute::take;
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::config::ConfigOptions;
use datafusion::common::{Result, ScalarValue, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};

use crate::plan::sql::type_name;
use crate::plan::sql::types::timestamp_type;

/// What an argument is cast to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Param {
    /// STRING.
    Text,
    /// BINARY, or a STRING as its UTF-8 bytes.
    Bytes,
    /// BINARY stays, all else becomes STRING.
    TextOrBytes,
    /// INT.
    Int,
    /// BIGINT.
    Long,
    /// TINYINT to INT become INT, other numbers and strings BIGINT.
    IntOrLong,
    /// DOUBLE.
    Double,
    /// Any number as it is; a string becomes DOUBLE.
    Number,
    /// BOOLEAN.
    Boolean,
    /// DATE; a TIMESTAMP loses its time of day.
    Date,
    /// TIMESTAMP; a DATE is its midnight.
    Timestamp,
    /// Anything, as it is.
    Any,
}

impl Param {
    /// The type that a value of type `given` is cast to; `None` if Spark has no implicit cast.
    pub fn accept(self, given: &DataType) -> Option<DataType> {
        use DataType::{Binary, Boolean, Date32, Float64, Int8, Int16, Int32, Int64, Utf8};
        let nested = given.is_nested();
        let text = matches!(given, Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
        let bytes = matches!(
            given,
            Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_)
        );
        let null = matches!(given, DataType::Null);
        let number = given.is_numeric() || text || null;
        let time = text || null || matches!(given, Date32 | DataType::Timestamp(..));
        let fits = |fits: bool, to: DataType| fits.then_some(to);
        match self {
            Self::Text => fits(!nested, Utf8),
            Self::Bytes => fits(text || bytes || null, Binary),
            Self::TextOrBytes if bytes => Some(Binary),
            Self::TextOrBytes => fits(!nested, Utf8),
            Self::Int => fits(number, Int32),
            Self::Long => fits(number, Int64),
            Self::IntOrLong if matches!(given, Int8 | Int16 | Int32) || text || null => Some(Int32),
            Self::IntOrLong => fits(number, Int64),
            Self::Double => fits(number, Float64),
            Self::Number if given.is_numeric() => Some(given.clone()),
            Self::Number => fits(number, Float64),
            Self::Boolean => fits(text || null || *given == Boolean, Boolean),
            Self::Date => fits(time, Date32),
            Self::Timestamp => fits(time, timestamp_type()),
            Self::Any => Some(given.clone()),
        }
    }

    /// The same for argument `index` (from 0) of `function`, with the error of Spark's class.
    pub fn coerce(self, function: &str, index: usize, given: &DataType) -> Result<DataType> {
        match self.accept(given) {
            Some(data_type) => Ok(data_type),
            None => unexpected(function, index, self.name(), given),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Text => "STRING",
            Self::Bytes => "BINARY",
            Self::TextOrBytes => "STRING or BINARY",
            Self::Int => "INT",
            Self::Long => "BIGINT",
            Self::IntOrLong => "INT or BIGINT",
            Self::Double => "DOUBLE",
            Self::Number => "number",
            Self::Boolean => "BOOLEAN",
            Self::Date => "DATE",
            Self::Timestamp => "TIMESTAMP",
            Self::Any => "value",
        }
    }
}

/// The type of a result from the types of the arguments, as they were cast, and from those that
/// are constants.
pub type ResultType = fn(&[DataType], &[Option<&ScalarValue>]) -> Result<DataType>;

/// The types that arguments of these types are cast to, of the function of this name; the error
/// begins with Spark's class.
pub type Coercion = fn(&str, &[DataType]) -> Result<Vec<DataType>>;

/// What a function gives.
pub enum Gives {
    /// Always the same.
    Always(DataType),
    /// It depends on the call.
    Of(ResultType),
}

impl From<DataType> for Gives {
    fn from(data_type: DataType) -> Self {
        Self::Always(data_type)
    }
}

impl From<ResultType> for Gives {
    fn from(of: ResultType) -> Self {
        Self::Of(of)
    }
}

/// Computes a batch of calls.
type Compute = Box<dyn Fn(&Call) -> Result<ArrayRef> + Send + Sync>;

/// A declaration; [`Function::udf`] ends it.
pub struct Function {
    name: &'static str,
    aliases: Vec<String>,
    params: &'static [Param],
    optional: usize,
    repeated: bool,
    coercion: Option<Coercion>,
    gives: Gives,
    compute: Compute,
    signature: Signature,
}

/// A function called `name` (in lower case) of `params`. `compute` gives an array of
/// [`Call::rows`] values of the result's type.
pub fn function(
    name: &'static str,
    params: &'static [Param],
    gives: impl Into<Gives>,
    compute: impl Fn(&Call) -> Result<ArrayRef> + Send + Sync + 'static,
) -> Function {
    Function {
        name,
        aliases: vec![],
        params,
        optional: 0,
        repeated: false,
        coercion: None,
        gives: gives.into(),
        compute: Box::new(compute),
        signature: Signature::user_defined(Volatility::Immutable),
    }
}

impl Function {
    /// Other names of it.
    #[must_use]
    pub fn also(mut self, aliases: &[&str]) -> Self {
        self.aliases = aliases.iter().map(|&alias| alias.to_owned()).collect();
        self
    }

    /// The last `count` parameters may be left out.
    #[must_use]
    pub fn optional(mut self, count: usize) -> Self {
        self.optional = count;
        self
    }

    /// The last parameter may come several times.
    #[must_use]
    pub fn repeated(mut self) -> Self {
        self.repeated = true;
        self
    }

    /// A rule of its own for the arguments' types, after their number was checked.
    #[must_use]
    pub fn coerced(mut self, coercion: Coercion) -> Self {
        self.coercion = Some(coercion);
        self
    }

    /// The function as the planner takes it.
    pub fn udf(mut self) -> Arc<ScalarUDF> {
        if self.params.is_empty() && !self.repeated {
            self.signature = Signature::nullary(Volatility::Immutable);
        }
        Arc::new(ScalarUDF::new_from_impl(self))
    }

    fn check_number(&self, given: usize) -> Result<()> {
        let (least, most) = (self.params.len() - self.optional, self.params.len());
        if given >= least && (given <= most || self.repeated) {
            return Ok(());
        }
        let wanted = match (least, most) {
            _ if self.repeated => format!("{least} arguments or more"),
            (1, 1) => "1 argument".into(),
            (least, most) if least == most => format!("{least} arguments"),
            (least, most) => format!("{least} to {most} arguments"),
        };
        plan_err!(
            "[WRONG_NUM_ARGS.WITHOUT_SUGGESTION] {} takes {wanted}, not {given}",
            self.name
        )
    }
}

/// The error of an argument (counted from 0) whose type a function does not take.
pub fn unexpected<T>(name: &str, index: usize, wanted: &str, given: &DataType) -> Result<T> {
    plan_err!(
        "[DATATYPE_MISMATCH.UNEXPECTED_INPUT_TYPE] argument {} of {name} must be {wanted}, not {}; add a CAST",
        index + 1,
        type_name(given)
    )
}

impl std::fmt::Debug for Function {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)
    }
}

// The name stands for all the rest.
impl PartialEq for Function {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}
impl Eq for Function {}
impl std::hash::Hash for Function {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for Function {
    fn name(&self) -> &str {
        self.name
    }

    fn aliases(&self) -> &[String] {
        &self.aliases
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        self.check_number(types.len())?;
        if let Some(coercion) = self.coercion {
            return coercion(self.name, types);
        }
        let last = self.params.last();
        let params = self.params.iter().chain(last.into_iter().cycle());
        (types.iter().zip(params).enumerate())
            .map(|(index, (given, param))| param.coerce(self.name, index, given))
            .collect()
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        match &self.gives {
            Gives::Always(data_type) => Ok(data_type.clone()),
            Gives::Of(of) => of(types, &vec![None; types.len()]),
        }
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        let data_type = match &self.gives {
            Gives::Always(data_type) => data_type.clone(),
            Gives::Of(of) => {
                let fields = args.arg_fields.iter();
                let types: Vec<DataType> = fields.map(|f| f.data_type().clone()).collect();
                of(&types, args.scalar_arguments)?
            }
        };
        Ok(Arc::new(Field::new(self.name, data_type, true)))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let constant = |arg: &ColumnarValue| matches!(arg, ColumnarValue::Scalar(_));
        let all_constant = args.args.iter().all(constant);
        let columns = (args.args.iter())
            .map(|arg| match arg {
                ColumnarValue::Array(array) => Ok((Arc::clone(array), false)),
                ColumnarValue::Scalar(scalar) => Ok((scalar.to_array()?, true)),
            })
            .collect::<Result<_>>()?;
        let call = Call {
            columns,
            rows: if all_constant {
                args.number_rows.min(1)
            } else {
                args.number_rows
            },
            returns: args.return_field.data_type().clone(),
            config: args.config_options,
        };
        let result = (self.compute)(&call)?;
        if all_constant && !result.is_empty() {
            return Ok(ColumnarValue::Scalar(ScalarValue::try_from_array(
                &result, 0,
            )?));
        }
        Ok(ColumnarValue::Array(result))
    }
}

/// A batch of calls of one function.
pub struct Call {
    columns: Vec<(ArrayRef, bool)>,
    rows: usize,
    returns: DataType,
    config: Arc<ConfigOptions>,
}

/// An argument's values.
pub struct Column<'a, A> {
    array: &'a A,
    constant: bool,
}

impl<'a, A> Column<'a, A>
where
    &'a A: ArrayAccessor,
{
    /// The value of a row; `None` where it is null.
    pub fn get(&self, row: usize) -> Option<<&'a A as ArrayAccessor>::Item> {
        let row = if self.constant { 0 } else { row };
        self.array.is_valid(row).then(|| self.array.value(row))
    }
}

impl Call {
    /// How many calls there are.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// How many arguments were given.
    pub fn len(&self) -> usize {
        self.columns.len()
    }

    /// Whether there are no arguments.
    pub fn is_empty(&self) -> bool {
        self.columns.is_empty()
    }

    /// The type of the result.
    pub fn returns(&self) -> &DataType {
        &self.returns
    }

    /// The type of an argument.
    pub fn data_type(&self, index: usize) -> &DataType {
        self.columns[index].0.data_type()
    }

    /// The session's time zone.
    pub fn time_zone(&self) -> &str {
        self.config.execution.time_zone.as_deref().unwrap_or("UTC")
    }

    /// An argument with a value per row.
    pub fn array(&self, index: usize) -> Result<ArrayRef> {
        let (array, constant) = &self.columns[index];
        if *constant && self.rows != 1 {
            let first = UInt32Array::from_value(0, self.rows);
            return Ok(take(array, &first, None)?);
        }
        Ok(Arc::clone(array))
    }

    /// An argument of a primitive type, which [`Param`] has made sure of.
    pub fn primitive<T: ArrowPrimitiveType>(&self, index: usize) -> Column<'_, PrimitiveArray<T>> {
        let (array, constant) = &self.columns[index];
        Column {
            array: array.as_primitive(),
            constant: *constant,
        }
    }

    /// An argument that is a STRING.
    pub fn text(&self, index: usize) -> Column<'_, StringArray> {
        let (array, constant) = &self.columns[index];
        Column {
            array: array.as_string(),
            constant: *constant,
        }
    }

    /// An argument that is a BINARY.
    pub fn bytes(&self, index: usize) -> Column<'_, BinaryArray> {
        let (array, constant) = &self.columns[index];
        Column {
            array: array.as_binary(),
            constant: *constant,
        }
    }

    /// An argument that is a BOOLEAN.
    pub fn boolean(&self, index: usize) -> Column<'_, BooleanArray> {
        let (array, constant) = &self.columns[index];
        Column {
            array: array.as_boolean(),
            constant: *constant,
        }
    }

    /// An argument that is an INT.
    pub fn ints(&self, index: usize) -> Column<'_, Int32Array> {
        self.primitive(index)
    }

    /// An argument that is a BIGINT.
    pub fn longs(&self, index: usize) -> Column<'_, Int64Array> {
        self.primitive(index)
    }

    /// An argument that is a DOUBLE.
    pub fn doubles(&self, index: usize) -> Column<'_, Float64Array> {
        self.primitive(index)
    }

    /// Strings, one per row: `write` puts the row's text into an empty buffer, or gives `None` for
    /// a null.
    pub fn texts(
        &self,
        mut write: impl FnMut(usize, &mut String) -> Result<Option<()>>,
    ) -> Result<ArrayRef> {
        let mut out = StringBuilder::with_capacity(self.rows, self.rows * 8);
        let mut text = String::new();
        for row in 0..self.rows {
            text.clear();
            let written = write(row, &mut text)?;
            out.append_option(written.map(|()| text.as_str()));
        }
        Ok(Arc::new(out.finish()))
    }

    /// Binaries, one per row, written as those of [`Call::texts`].
    pub fn binaries(
        &self,
        mut write: impl FnMut(usize, &mut Vec<u8>) -> Result<Option<()>>,
    ) -> Result<ArrayRef> {
        let mut out = BinaryBuilder::with_capacity(self.rows, self.rows * 8);
        let mut bytes = Vec::new();
        for row in 0..self.rows {
            bytes.clear();
            let written = write(row, &mut bytes)?;
            out.append_option(written.map(|()| bytes.as_slice()));
        }
        Ok(Arc::new(out.finish()))
    }

    /// Numbers or times, one per row. A decimal or timestamp gets its full type from the result's.
    pub fn values<T: ArrowPrimitiveType>(
        &self,
        mut value: impl FnMut(usize) -> Result<Option<T::Native>>,
    ) -> Result<ArrayRef> {
        let mut out = PrimitiveBuilder::<T>::with_capacity(self.rows);
        for row in 0..self.rows {
            out.append_option(value(row)?);
        }
        Ok(Arc::new(out.finish().with_data_type(self.returns.clone())))
    }

    /// Truth values, one per row.
    pub fn truths(&self, mut value: impl FnMut(usize) -> Result<Option<bool>>) -> Result<ArrayRef> {
        let mut out = BooleanBuilder::with_capacity(self.rows);
        for row in 0..self.rows {
            out.append_option(value(row)?);
        }
        Ok(Arc::new(out.finish()))
    }
}
