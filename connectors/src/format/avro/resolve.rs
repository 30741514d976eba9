//! How the values of a schema become those of columns: found out once for each schema.
//!
//! Fields are columns by their names; a name that is not there is looked for without regard to case,
//! and then among the aliases that the reader's schema gives it. What a writer did not write is the
//! default of the reader's schema, else NULL.

use arrow::datatypes::{DataType, FieldRef};

use super::cursor::Fault;
use super::defaults::encode_default;
use super::schema::{AvroSchema, Decimal, Field, Meaning, Type, TypeId};

/// How one value is read.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Step {
    /// Nothing is there: NULL.
    Null,
    Boolean,
    /// A whole number into any number or date.
    Integer,
    /// A point in time: times so many microseconds, or divided by them where negative.
    Moment(i64),
    Float,
    Double,
    /// Bytes, or text where the column is a STRING.
    Bytes,
    Fixed(usize),
    Enum(Vec<String>),
    /// Of a size that is known, or comes first; and what it is to be multiplied with.
    Decimal {
        size: Option<usize>,
        factor: i128,
    },
    Array(Box<Step>),
    Map(Box<Step>),
    Record(Record),
    /// By the number of its branch.
    Union(Vec<Step>),
    /// A union as a struct of one field for each branch that is not null: which field, and how.
    Members(Vec<Option<(usize, Step)>>),
    /// A branch that does not fit the column, and why.
    Unfit(Fault),
}

/// How the fields of a record are read.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Record {
    /// In the writer's order.
    pub(super) fields: Vec<Slot>,
    /// Columns that no field is for.
    pub(super) absent: Vec<(usize, Fill)>,
}

/// What becomes of a field.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Slot {
    Skip(TypeId),
    /// The column, and how.
    Read(usize, Step),
}

/// The value of a column that was not written.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Fill {
    Null,
    /// The bytes of the default and how they are read.
    Default(Vec<u8>, Step),
}

/// The reader's schema of a value.
type Reader<'a> = Option<(&'a AvroSchema, TypeId)>;

/// How the records of `writer` become rows of `columns`; `skipped` is a column that is no field.
pub(super) fn resolve(
    writer: &AvroSchema,
    reader: Option<&AvroSchema>,
    columns: &[FieldRef],
    skipped: Option<usize>,
) -> Result<Record, Fault> {
    let reader = reader.map(|reader| (reader, reader.root()));
    let fields = writer.fields(writer.root()).unwrap_or_default();
    record((writer, fields), reader, columns, skipped)
}

fn record(
    (writer, fields): (&AvroSchema, &[Field]),
    reader: Reader<'_>,
    columns: &[FieldRef],
    skipped: Option<usize>,
) -> Result<Record, Fault> {
    let wanted = reader.and_then(|(reader, id)| Some((reader, reader.fields(id)?)));
    let mut slots: Vec<Slot> = fields.iter().map(|field| Slot::Skip(field.of)).collect();
    let mut absent = vec![];
    for (index, column) in columns.iter().enumerate() {
        if Some(index) == skipped {
            continue;
        }
        let of_reader = wanted.and_then(|(reader, wanted)| {
            let field = &wanted[position(wanted, column.name())?];
            Some((reader, field))
        });
        let aliases = of_reader.map_or(&[][..], |(_, field)| &field.aliases);
        let mut names = std::iter::once(column.name()).chain(aliases);
        match names.find_map(|name| position(fields, name)) {
            Some(at) => {
                if matches!(slots[at], Slot::Read(..)) {
                    return Err(format!(
                        "two columns are the field '{}', one of them '{}'",
                        fields[at].name,
                        column.name()
                    ));
                }
                let reader = of_reader.map(|(reader, field)| (reader, field.of));
                let step = step((writer, fields[at].of), reader, column)?;
                slots[at] = Slot::Read(index, step);
            }
            None => absent.push((index, fill(of_reader, column)?)),
        }
    }
    Ok(Record {
        fields: slots,
        absent,
    })
}

/// The field of a name: as it is written, else in any case.
pub(super) fn position(fields: &[Field], name: &str) -> Option<usize> {
    let exact = fields.iter().position(|field| field.name == name);
    exact.or_else(|| {
        fields
            .iter()
            .position(|field| field.name.eq_ignore_ascii_case(name))
    })
}

fn fill(reader: Option<(&AvroSchema, &Field)>, column: &FieldRef) -> Result<Fill, Fault> {
    let Some((reader, field)) = reader else {
        return Ok(Fill::Null);
    };
    let Some(default) = &field.default else {
        return Ok(Fill::Null);
    };
    let mut bytes = vec![];
    encode_default(reader, field.of, default, &mut bytes)
        .map_err(|why| format!("the default of '{}': {why}", field.name))?;
    let step = step((reader, field.of), None, column)?;
    Ok(Fill::Default(bytes, step))
}

fn step(
    (writer, id): (&AvroSchema, TypeId),
    reader: Reader<'_>,
    column: &FieldRef,
) -> Result<Step, Fault> {
    use DataType as D;
    let unfit = || {
        Err(format!(
            "column '{}' is a {}, and the schema has {} for it",
            column.name(),
            column.data_type(),
            writer.describe(id)
        ))
    };
    let part =
        |reader: Reader<'_>, of: TypeId, column: &FieldRef| step((writer, of), reader, column);
    let step = match (writer.get(id), column.data_type()) {
        (Type::Null, _) => Step::Null,
        (Type::Union(branches), _) => return union((writer, branches), reader, column),
        (Type::Boolean, D::Boolean) => Step::Boolean,
        (Type::Int(Meaning::Number), D::Int8 | D::Int16)
        | (Type::Int(Meaning::Number) | Type::Long(Meaning::Number), D::Float32 | D::Float64)
        | (Type::Int(_), D::Int32)
        | (Type::Int(_) | Type::Long(_), D::Int64)
        | (Type::Int(Meaning::Date), D::Date32) => Step::Integer,
        (Type::Long(Meaning::Timestamp { per_second, local }), D::Timestamp(_, zone))
            if *local == zone.is_none() =>
        {
            Step::Moment(match per_second {
                1_000 => 1_000,
                1_000_000 => 1,
                _ => -1_000,
            })
        }
        // As in Spark, milliseconds.
        (Type::Long(Meaning::Number), D::Timestamp(_, Some(_))) => Step::Moment(1_000),
        (Type::Float, D::Float32 | D::Float64) => Step::Float,
        (Type::Double, D::Float64) => Step::Double,
        (Type::Bytes(Some(of)), D::Decimal128(precision, scale)) => {
            match factor(*of, *precision, *scale) {
                Some(factor) => Step::Decimal { size: None, factor },
                None => return unfit(),
            }
        }
        (
            Type::Fixed {
                decimal: Some(of),
                size,
                ..
            },
            D::Decimal128(precision, scale),
        ) => match factor(*of, *precision, *scale) {
            Some(factor) => Step::Decimal {
                size: Some(*size),
                factor,
            },
            None => return unfit(),
        },
        (Type::String | Type::Bytes(None), D::Utf8 | D::Binary) | (Type::Bytes(_), D::Binary) => {
            Step::Bytes
        }
        (Type::Fixed { size, .. }, D::Binary) => Step::Fixed(*size),
        (Type::Enum { symbols, .. }, D::Utf8) => Step::Enum(symbols.clone()),
        (Type::Array(items), D::List(item)) => {
            let reader = nested(reader, |of| match of {
                Type::Array(items) => Some(*items),
                _ => None,
            });
            Step::Array(Box::new(part(reader, *items, item)?))
        }
        (Type::Map(values), D::Map(entries, _)) => {
            let reader = nested(reader, |of| match of {
                Type::Map(values) => Some(*values),
                _ => None,
            });
            match entries.data_type() {
                D::Struct(pair) if pair.len() == 2 => {
                    Step::Map(Box::new(part(reader, *values, &pair[1])?))
                }
                _ => return unfit(),
            }
        }
        (Type::Record { fields, .. }, D::Struct(columns)) => {
            Step::Record(record((writer, fields), reader, columns, None)?)
        }
        _ => return unfit(),
    };
    Ok(step)
}

/// The part of the reader's type that `part` takes out of one of its branches.
fn nested(reader: Reader<'_>, part: impl Fn(&Type) -> Option<TypeId>) -> Reader<'_> {
    let (schema, id) = reader?;
    let branches = schema.branches(id).into_iter();
    let mut parts = branches.filter_map(|branch| part(schema.get(branch)));
    parts.next().map(|id| (schema, id))
}

fn union(
    (writer, branches): (&AvroSchema, &[TypeId]),
    reader: Reader<'_>,
    column: &FieldRef,
) -> Result<Step, Fault> {
    let is_null = |branch: &TypeId| *writer.get(*branch) == Type::Null;
    if let DataType::Struct(columns) = column.data_type()
        && columns.iter().all(|column| member(column.name()).is_some())
        && branches.iter().filter(|branch| !is_null(branch)).count() > 1
    {
        return members((writer, branches), columns);
    }
    let mut steps = vec![];
    // Of branches that are not null.
    let (mut fitting, mut unfit) = (0, vec![]);
    for branch in branches {
        match step((writer, *branch), reader, column) {
            Ok(step) => {
                fitting += usize::from(!is_null(branch));
                steps.push(step);
            }
            Err(why) => {
                unfit.push(why.clone());
                steps.push(Step::Unfit(why));
            }
        }
    }
    if fitting > 0 || unfit.is_empty() {
        return Ok(Step::Union(steps));
    }
    Err(unfit.join("; "))
}

/// The number in `member0`.
fn member(name: &str) -> Option<usize> {
    name.to_ascii_lowercase()
        .strip_prefix("member")?
        .parse()
        .ok()
}

/// A union as Spark has it where no one type holds it: `STRUCT<member0: ..., member1: ...>`.
fn members(
    (writer, branches): (&AvroSchema, &[TypeId]),
    columns: &[FieldRef],
) -> Result<Step, Fault> {
    let mut number = 0;
    let mut steps = vec![];
    for branch in branches {
        if *writer.get(*branch) == Type::Null {
            steps.push(None);
            continue;
        }
        let at = columns
            .iter()
            .position(|column| member(column.name()) == Some(number));
        steps.push(Some(if let Some(at) = at {
            (at, step((writer, *branch), None, &columns[at])?)
        } else {
            let why = format!("there is no column 'member{number}' for it");
            (0, Step::Unfit(why))
        }));
        number += 1;
    }
    Ok(Step::Members(steps))
}

/// What a decimal is multiplied with to have the column's scale, where all of them fit the column.
fn factor(of: Decimal, precision: u8, scale: i8) -> Option<i128> {
    let up = u32::try_from(scale).ok()?.checked_sub(of.scale)?;
    let digits = u32::from(precision).checked_sub(up)?;
    (of.precision <= digits).then(|| 10_i128.pow(up))
}
