//! Schemas, as [Avro's specification](https://avro.apache.org/docs/1.12.0/specification/) has them.
//!
//! The types of a schema are numbered, and a name that is used again is the number of the type that
//! has it: so a type can contain itself. What is said beside the types (`doc`, `order`, attributes of
//! others) is passed over, as are logical types that are not known or do not fit.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Map, Value};

/// The number of a type in its schema.
pub(super) type TypeId = usize;

/// A schema whose root is a record.
#[derive(Clone, Debug)]
pub struct AvroSchema {
    text: Arc<str>,
    types: Vec<Type>,
    root: TypeId,
}

/// A type of a schema.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Type {
    Null,
    Boolean,
    Int(Meaning),
    Long(Meaning),
    Float,
    Double,
    String,
    Bytes(Option<Decimal>),
    Fixed {
        name: String,
        size: usize,
        decimal: Option<Decimal>,
    },
    Enum {
        name: String,
        symbols: Vec<String>,
    },
    Array(TypeId),
    Map(TypeId),
    Union(Vec<TypeId>),
    Record {
        name: String,
        fields: Vec<Field>,
    },
}

/// What a whole number stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    Number,
    /// Days since 1970-01-01.
    Date,
    /// Since midnight.
    Time,
    /// Since 1970-01-01 00:00.
    Timestamp {
        /// How many of them make a second.
        per_second: i64,
        /// Whether it is of no time zone.
        local: bool,
    },
}

/// The logical type `decimal`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Decimal {
    pub(super) precision: u32,
    pub(super) scale: u32,
}

/// A field of a record.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Field {
    pub(super) name: String,
    pub(super) aliases: Vec<String>,
    pub(super) of: TypeId,
    pub(super) default: Option<Value>,
}

impl AvroSchema {
    /// Reads a schema whose root must be a record; the error says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        Self::parse_with(text, &[])
    }

    /// The same of a schema that uses names which `references` define. One of them may use names of
    /// those before it.
    pub fn parse_with(text: &str, references: &[String]) -> Result<Self, String> {
        let mut parser = Parser::default();
        let json = |text: &str| -> Result<Value, String> {
            serde_json::from_str(text).map_err(|why| format!("it is no JSON ({why})"))
        };
        for reference in references {
            parser.parse(&json(reference)?, "")?;
        }
        let root = parser.parse(&json(text)?, "")?;
        let schema = Self {
            text: Arc::from(text),
            types: parser.types,
            root,
        };
        match schema.get(root) {
            Type::Record { .. } => Ok(schema),
            _ => Err(format!(
                "it is {}, and a row is a record",
                schema.describe(root)
            )),
        }
    }

    /// The schema as it was written.
    pub fn text(&self) -> &Arc<str> {
        &self.text
    }

    /// The full name of the record.
    pub(crate) fn name(&self) -> &str {
        match self.get(self.root) {
            Type::Record { name, .. } => name,
            _ => "",
        }
    }

    pub(super) fn get(&self, id: TypeId) -> &Type {
        &self.types[id]
    }

    pub(super) fn root(&self) -> TypeId {
        self.root
    }

    /// The fields of a record, or of the one record in a union.
    pub(super) fn fields(&self, id: TypeId) -> Option<&[Field]> {
        match self.get(id) {
            Type::Record { fields, .. } => Some(fields),
            Type::Union(branches) => {
                let mut records = branches
                    .iter()
                    .filter_map(|branch| match self.get(*branch) {
                        Type::Record { fields, .. } => Some(fields.as_slice()),
                        _ => None,
                    });
                records.next().filter(|_| records.next().is_none())
            }
            _ => None,
        }
    }

    /// The types of a union that are not null; of another type, itself.
    pub(super) fn branches(&self, id: TypeId) -> Vec<TypeId> {
        match self.get(id) {
            Type::Union(branches) => {
                let valued = branches.iter().copied();
                valued
                    .filter(|branch| *self.get(*branch) != Type::Null)
                    .collect()
            }
            _ => vec![id],
        }
    }

    /// A type in words, for messages.
    pub(super) fn describe(&self, id: TypeId) -> String {
        let stamp = |per_second, local| {
            let unit = match per_second {
                1_000 => "millis",
                1_000_000 => "micros",
                _ => "nanos",
            };
            let local = if local { "local-" } else { "" };
            format!("{local}timestamp-{unit}")
        };
        let whole = |name: &str, meaning: Meaning| match meaning {
            Meaning::Number => name.to_owned(),
            Meaning::Date => "date".to_owned(),
            Meaning::Time => "time".to_owned(),
            Meaning::Timestamp { per_second, local } => stamp(per_second, local),
        };
        let decimal = |of: &Decimal| format!("decimal({}, {})", of.precision, of.scale);
        match self.get(id) {
            Type::Null => "null".into(),
            Type::Boolean => "boolean".into(),
            Type::Int(meaning) => whole("int", *meaning),
            Type::Long(meaning) => whole("long", *meaning),
            Type::Float => "float".into(),
            Type::Double => "double".into(),
            Type::String => "string".into(),
            Type::Bytes(None) => "bytes".into(),
            Type::Fixed {
                decimal: Some(of), ..
            }
            | Type::Bytes(Some(of)) => decimal(of),
            Type::Fixed { name, .. } => format!("fixed {name}"),
            Type::Enum { name, .. } => format!("enum {name}"),
            Type::Array(_) => "array".into(),
            Type::Map(_) => "map".into(),
            Type::Record { name, .. } => format!("record {name}"),
            Type::Union(branches) => {
                let branches: Vec<String> = branches.iter().map(|b| self.describe(*b)).collect();
                format!("union of {}", branches.join(", "))
            }
        }
    }
}

#[derive(Default)]
struct Parser {
    types: Vec<Type>,
    /// Named types by their full names.
    names: HashMap<String, TypeId>,
}

impl Parser {
    fn add(&mut self, of: Type) -> TypeId {
        self.types.push(of);
        self.types.len() - 1
    }

    /// Gives a named type its number before its parts are read, as they may name it.
    fn define(&mut self, name: &str) -> Result<TypeId, String> {
        let id = self.add(Type::Null);
        match self.names.insert(name.to_owned(), id) {
            None => Ok(id),
            Some(_) => Err(format!("it defines '{name}' twice")),
        }
    }

    fn parse(&mut self, json: &Value, namespace: &str) -> Result<TypeId, String> {
        match json {
            Value::String(name) => self.named(name, namespace),
            Value::Array(branches) => {
                let branches = branches
                    .iter()
                    .map(|branch| self.parse(branch, namespace))
                    .collect::<Result<Vec<_>, _>>()?;
                if branches.is_empty() {
                    return Err("it has a union of nothing".into());
                }
                if branches
                    .iter()
                    .any(|branch| matches!(self.types[*branch], Type::Union(_)))
                {
                    return Err("it has a union in a union".into());
                }
                Ok(self.add(Type::Union(branches)))
            }
            Value::Object(object) => match object.get("type") {
                Some(Value::String(kind)) => self.complex(kind, object, namespace),
                // A type may be wrapped as often as one likes.
                Some(inner) => self.parse(inner, namespace),
                None => Err(format!("a type is missing in {json}")),
            },
            other => Err(format!("{other} is no type")),
        }
    }

    /// A primitive type, or one that was named before.
    fn named(&mut self, name: &str, namespace: &str) -> Result<TypeId, String> {
        if let Some(primitive) = primitive(name) {
            return Ok(self.add(primitive));
        }
        let full = full_name(name, namespace);
        let found = self.names.get(&full).or_else(|| self.names.get(name));
        found
            .copied()
            .ok_or_else(|| format!("it names a type '{full}' that it does not define"))
    }

    fn complex(
        &mut self,
        kind: &str,
        object: &Map<String, Value>,
        namespace: &str,
    ) -> Result<TypeId, String> {
        let part = |key: &str| {
            object
                .get(key)
                .ok_or_else(|| format!("its {kind} has no '{key}'"))
        };
        match kind {
            "record" | "error" => {
                let (name, namespace) = own_name(object, namespace)?;
                let id = self.define(&name)?;
                let fields = part("fields")?
                    .as_array()
                    .ok_or_else(|| format!("the fields of '{name}' are no list"))?;
                let fields = fields
                    .iter()
                    .map(|field| self.field(field, &name, &namespace))
                    .collect::<Result<Vec<Field>, _>>()?;
                for (index, field) in fields.iter().enumerate() {
                    if fields[..index].iter().any(|other| other.name == field.name) {
                        return Err(format!("'{name}' has two fields '{}'", field.name));
                    }
                }
                self.types[id] = Type::Record { name, fields };
                Ok(id)
            }
            "enum" => {
                let (name, _) = own_name(object, namespace)?;
                let id = self.define(&name)?;
                let symbols = texts(part("symbols")?)
                    .ok_or_else(|| format!("the symbols of '{name}' are no texts"))?;
                self.types[id] = Type::Enum { name, symbols };
                Ok(id)
            }
            "fixed" => {
                let (name, _) = own_name(object, namespace)?;
                let id = self.define(&name)?;
                let size = part("size")?
                    .as_u64()
                    .and_then(|size| usize::try_from(size).ok())
                    .ok_or_else(|| format!("the size of '{name}' is no number"))?;
                let decimal = decimal(object);
                self.types[id] = Type::Fixed {
                    name,
                    size,
                    decimal,
                };
                Ok(id)
            }
            "array" => {
                let items = self.parse(part("items")?, namespace)?;
                Ok(self.add(Type::Array(items)))
            }
            "map" => {
                let values = self.parse(part("values")?, namespace)?;
                Ok(self.add(Type::Map(values)))
            }
            name => match logical(name, object) {
                Some(logical) => Ok(self.add(logical)),
                None => self.named(name, namespace),
            },
        }
    }

    fn field(&mut self, json: &Value, record: &str, namespace: &str) -> Result<Field, String> {
        let name = json
            .get("name")
            .and_then(Value::as_str)
            .ok_or_else(|| format!("a field of '{record}' has no name"))?;
        let of = json
            .get("type")
            .ok_or_else(|| format!("the field '{name}' of '{record}' has no type"))?;
        Ok(Field {
            name: name.to_owned(),
            aliases: json.get("aliases").and_then(texts).unwrap_or_default(),
            of: self.parse(of, namespace)?,
            default: json.get("default").cloned(),
        })
    }
}

fn primitive(name: &str) -> Option<Type> {
    Some(match name {
        "null" => Type::Null,
        "boolean" => Type::Boolean,
        "int" => Type::Int(Meaning::Number),
        "long" => Type::Long(Meaning::Number),
        "float" => Type::Float,
        "double" => Type::Double,
        "bytes" => Type::Bytes(None),
        "string" => Type::String,
        _ => return None,
    })
}

/// A primitive type that a logical one is put on.
fn logical(kind: &str, object: &Map<String, Value>) -> Option<Type> {
    let stamp = |per_second, local| Type::Long(Meaning::Timestamp { per_second, local });
    let known = match (kind, object.get("logicalType")?.as_str()?) {
        ("int", "date") => Type::Int(Meaning::Date),
        ("int", "time-millis") => Type::Int(Meaning::Time),
        ("long", "time-micros") => Type::Long(Meaning::Time),
        ("long", "timestamp-millis") => stamp(1_000, false),
        ("long", "timestamp-micros") => stamp(1_000_000, false),
        ("long", "timestamp-nanos") => stamp(1_000_000_000, false),
        ("long", "local-timestamp-millis") => stamp(1_000, true),
        ("long", "local-timestamp-micros") => stamp(1_000_000, true),
        ("long", "local-timestamp-nanos") => stamp(1_000_000_000, true),
        ("bytes", "decimal") => Type::Bytes(decimal(object)),
        _ => return None,
    };
    Some(known)
}

/// The decimal of a type, where it is one that we can hold.
fn decimal(object: &Map<String, Value>) -> Option<Decimal> {
    if object.get("logicalType")?.as_str()? != "decimal" {
        return None;
    }
    let number = |key: &str| u32::try_from(object.get(key)?.as_u64()?).ok();
    let precision = number("precision")?;
    let scale = match object.get("scale") {
        None => 0,
        Some(_) => number("scale")?,
    };
    (precision > 0 && scale <= precision).then_some(Decimal { precision, scale })
}

/// The full name of a type that is being defined, and the namespace of what is in it.
fn own_name(object: &Map<String, Value>, outer: &str) -> Result<(String, String), String> {
    let name = object
        .get("name")
        .and_then(Value::as_str)
        .filter(|name| !name.is_empty())
        .ok_or("it has a type without a name")?;
    let namespace = object.get("namespace").and_then(Value::as_str);
    let full = full_name(name, namespace.unwrap_or(outer));
    let inner = full.rsplit_once('.').map_or("", |(namespace, _)| namespace);
    let inner = inner.to_owned();
    Ok((full, inner))
}

fn full_name(name: &str, namespace: &str) -> String {
    if namespace.is_empty() || name.contains('.') {
        name.to_owned()
    } else {
        format!("{namespace}.{name}")
    }
}

fn texts(json: &Value) -> Option<Vec<String>> {
    let texts = json.as_array()?.iter();
    texts.map(|text| text.as_str().map(str::to_owned)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field_types(text: &str) -> Vec<String> {
        let schema = AvroSchema::parse(text).expect(text);
        let fields = schema.fields(schema.root()).expect("a record");
        fields.iter().map(|f| schema.describe(f.of)).collect()
    }

    #[test]
    fn types_are_read_however_they_are_written() {
        let text = r#"{"type":"record","name":"R","namespace":"a.b","doc":"x","fields":[
            {"name":"i","type":{"type":"int"}},
            {"name":"d","type":{"type":{"type":"int","logicalType":"date"}}},
            {"name":"m","type":["null",{"type":"long","logicalType":"local-timestamp-nanos"}],"default":null},
            {"name":"p","type":{"type":"bytes","logicalType":"decimal","precision":9,"scale":2}},
            {"name":"odd","type":{"type":"bytes","logicalType":"decimal","precision":2,"scale":9}},
            {"name":"u","type":{"type":"string","logicalType":"uuid"}},
            {"name":"f","type":{"type":"fixed","name":"F","size":3}},
            {"name":"e","type":{"type":"enum","name":"x.E","symbols":["A"]}},
            {"name":"f2","type":"F"}, {"name":"f3","type":"a.b.F"}, {"name":"e2","type":"x.E"},
            {"name":"next","type":["null","R"]},
            {"name":"l","type":{"type":"array","items":{"type":"map","values":"double"}}}]}"#;
        assert_eq!(
            field_types(text),
            [
                "int",
                "date",
                "union of null, local-timestamp-nanos",
                "decimal(9, 2)",
                "bytes",
                "string",
                "fixed a.b.F",
                "enum x.E",
                "fixed a.b.F",
                "fixed a.b.F",
                "enum x.E",
                "union of null, record a.b.R",
                "array",
            ]
        );
    }

    #[test]
    fn names_of_other_schemas_are_known_where_they_are_given() {
        let text = r#"{"type":"record","name":"R","fields":[{"name":"o","type":"shop.Order"}]}"#;
        let order = r#"{"type":"record","name":"Order","namespace":"shop","fields":[]}"#;
        assert!(AvroSchema::parse(text).is_err());
        assert!(AvroSchema::parse_with(text, &[order.to_owned()]).is_ok());
    }

    #[test]
    fn what_is_wrong_with_a_schema_is_said() {
        let cases = [
            ("{", "no JSON"),
            (r#""string""#, "it is string, and a row is a record"),
            (r#"["null","int"]"#, "union of null, int"),
            (r#"{"type":"record","fields":[]}"#, "without a name"),
            (r#"{"type":"record","name":"R"}"#, "no 'fields'"),
            (
                r#"{"type":"record","name":"R","fields":[{"name":"a","type":"strin"}]}"#,
                "a type 'strin' that it does not define",
            ),
            (
                r#"{"type":"record","name":"R","fields":[{"name":"a","type":"int"},{"name":"a","type":"int"}]}"#,
                "two fields 'a'",
            ),
            (
                r#"{"type":"record","name":"R","fields":[{"name":"a","type":{"type":"fixed","name":"R","size":1}}]}"#,
                "defines 'R' twice",
            ),
        ];
        for (text, part) in cases {
            let why = AvroSchema::parse(text).expect_err(text);
            assert!(why.contains(part), "{text}: {why}");
        }
    }
}
