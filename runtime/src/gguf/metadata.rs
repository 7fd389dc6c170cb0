//! Typed key-value pairs.

use super::GgufError;
use std::borrow::Cow;

/// A metadata value, with the type that the file gives it.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)] // The variants are the format's types.
pub enum Value {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    U64(u64),
    I64(i64),
    F32(f32),
    F64(f64),
    Bool(bool),
    String(String),
    Array(Array),
}

/// A metadata array. All elements have one type.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub enum Array {
    U8(Vec<u8>),
    I8(Vec<i8>),
    U16(Vec<u16>),
    I16(Vec<i16>),
    U32(Vec<u32>),
    I32(Vec<i32>),
    U64(Vec<u64>),
    I64(Vec<i64>),
    F32(Vec<f32>),
    F64(Vec<f64>),
    Bool(Vec<bool>),
    Strings(Vec<String>),
    Arrays(Vec<Array>),
}

/// Evaluates an expression on the vector that the array holds.
macro_rules! each_array {
    ($array:expr, $v:ident => $e:expr) => {
        match $array {
            Array::U8($v) => $e,
            Array::I8($v) => $e,
            Array::U16($v) => $e,
            Array::I16($v) => $e,
            Array::U32($v) => $e,
            Array::I32($v) => $e,
            Array::U64($v) => $e,
            Array::I64($v) => $e,
            Array::F32($v) => $e,
            Array::F64($v) => $e,
            Array::Bool($v) => $e,
            Array::Strings($v) => $e,
            Array::Arrays($v) => $e,
        }
    };
}

impl Array {
    /// The number of elements.
    pub fn len(&self) -> usize {
        each_array!(self, v => v.len())
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The element with this index.
    fn element(&self, index: usize) -> Option<Value> {
        Some(match self {
            Array::U8(v) => Value::U8(*v.get(index)?),
            Array::I8(v) => Value::I8(*v.get(index)?),
            Array::U16(v) => Value::U16(*v.get(index)?),
            Array::I16(v) => Value::I16(*v.get(index)?),
            Array::U32(v) => Value::U32(*v.get(index)?),
            Array::I32(v) => Value::I32(*v.get(index)?),
            Array::U64(v) => Value::U64(*v.get(index)?),
            Array::I64(v) => Value::I64(*v.get(index)?),
            Array::F32(v) => Value::F32(*v.get(index)?),
            Array::F64(v) => Value::F64(*v.get(index)?),
            Array::Bool(v) => Value::Bool(*v.get(index)?),
            Array::Strings(v) => Value::String(v.get(index)?.clone()),
            Array::Arrays(v) => Value::Array(v.get(index)?.clone()),
        })
    }

    /// The value of all elements, if there are any and they are all equal.
    fn only(&self) -> Option<Value> {
        fn all_equal<T: PartialEq>(v: &[T]) -> bool {
            v.split_first().is_some_and(|(first, rest)| rest.iter().all(|x| x == first))
        }
        if each_array!(self, v => all_equal(v)) { self.element(0) } else { None }
    }

    /// Converts all elements; `None` if one cannot be.
    fn convert<T>(&self, convert: impl Fn(&Value) -> Option<T>) -> Option<Vec<T>> {
        (0..self.len()).map(|i| convert(&self.element(i)?)).collect()
    }

    /// The type's name, for messages.
    fn kind(&self) -> &'static str {
        match self {
            Array::U8(_) | Array::I8(_) | Array::U16(_) | Array::I16(_) => "small integers",
            Array::U32(_) | Array::I32(_) | Array::U64(_) | Array::I64(_) => "integers",
            Array::F32(_) | Array::F64(_) => "floats",
            Array::Bool(_) => "booleans",
            Array::Strings(_) => "strings",
            Array::Arrays(_) => "lists",
        }
    }
}

impl Value {
    /// A whole number.
    fn integer(&self) -> Option<i128> {
        Some(match *self {
            Value::U8(x) => x.into(),
            Value::I8(x) => x.into(),
            Value::U16(x) => x.into(),
            Value::I16(x) => x.into(),
            Value::U32(x) => x.into(),
            Value::I32(x) => x.into(),
            Value::U64(x) => x.into(),
            Value::I64(x) => x.into(),
            Value::F32(x) => return Value::F64(x.into()).integer(),
            Value::F64(x) if x.fract() == 0.0 && x.abs() < 2f64.powi(64) => x as i128,
            _ => return None,
        })
    }

    /// The number, rounded to f32.
    fn float(&self) -> Option<f32> {
        match *self {
            Value::F32(x) => Some(x),
            Value::F64(x) => Some(x as f32),
            ref other => other.integer().map(|x| x as f32),
        }
    }

    /// A boolean, or 0 or 1.
    fn flag(&self) -> Option<bool> {
        match self {
            Value::Bool(x) => Some(*x),
            other => match other.integer()? {
                0 => Some(false),
                1 => Some(true),
                _ => None,
            },
        }
    }

    /// The value as a message shows it: short.
    pub fn summary(&self) -> String {
        match self {
            Value::Bool(x) => x.to_string(),
            Value::F32(x) => x.to_string(),
            Value::F64(x) => x.to_string(),
            Value::String(x) => format!("{:?}", super::error::shorten(x)),
            Value::Array(_) => self.kind(),
            other => other.integer().unwrap_or_default().to_string(),
        }
    }

    /// What it is, for messages.
    fn kind(&self) -> String {
        match self {
            Value::Array(x) => format!("a list of {} {}", x.len(), x.kind()),
            Value::Bool(_) => format!("the boolean {}", self.summary()),
            Value::String(_) => format!("the string {}", self.summary()),
            _ => format!("the number {}", self.summary()),
        }
    }
}

/// `From` for each Rust type that corresponds to one value type.
macro_rules! value_from {
    ($($t:ty => $variant:expr),* $(,)?) => {$(
        impl From<$t> for Value {
            fn from(x: $t) -> Self {
                $variant(x)
            }
        }
    )*};
}

value_from! {
    u32 => Value::U32, i32 => Value::I32, u64 => Value::U64, i64 => Value::I64, f32 => Value::F32,
    bool => Value::Bool, String => Value::String,
    Vec<u32> => |x| Value::Array(Array::U32(x)), Vec<i32> => |x| Value::Array(Array::I32(x)),
    Vec<f32> => |x| Value::Array(Array::F32(x)), Vec<bool> => |x| Value::Array(Array::Bool(x)),
    Vec<String> => |x| Value::Array(Array::Strings(x)),
}

impl From<Array> for Value {
    fn from(x: Array) -> Self {
        Value::Array(x)
    }
}

impl From<&str> for Value {
    fn from(x: &str) -> Self {
        Value::String(x.to_owned())
    }
}

impl From<&[&str]> for Value {
    fn from(x: &[&str]) -> Self {
        Value::Array(Array::Strings(x.iter().map(|s| (*s).to_owned()).collect()))
    }
}

/// A file's key-value pairs, in its order.
///
/// Getters return `None` for a key that is absent. They take a value of another type where that leaves no
/// doubt: an integer of any width, a whole float for an integer, an integer for a float, 0 and 1 for a
/// boolean, and a list whose elements are all equal for one of them. Any other type is an error, because a
/// key that counted as absent would give a wrong result.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metadata {
    entries: Vec<(String, Value)>,
}

impl Metadata {
    /// No entries.
    pub fn new() -> Self {
        Self::default()
    }

    /// The number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// All entries, in the file's order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.entries.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.entries.iter().find(|(k, _)| k == key).map(|(_, value)| value)
    }

    /// Removes an entry and returns its value, so that a large array is not copied.
    pub fn take(&mut self, key: &str) -> Option<Value> {
        let index = self.entries.iter().position(|(k, _)| k == key)?;
        Some(self.entries.remove(index).1)
    }

    /// Sets `key`; an existing entry keeps its place.
    pub fn insert(&mut self, key: impl Into<String>, value: impl Into<Value>) {
        let (key, value) = (key.into(), value.into());
        match self.entries.iter_mut().find(|(k, _)| *k == key) {
            Some(entry) => entry.1 = value,
            None => self.entries.push((key, value)),
        }
    }

    /// Appends an entry. The caller knows that the key is new.
    pub(super) fn push(&mut self, key: String, value: Value) {
        self.entries.push((key, value));
    }

    /// A string.
    pub fn str(&self, key: &str) -> Result<Option<&str>, GgufError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::String(s)) => Ok(Some(s)),
            Some(Value::Array(Array::Strings(v))) if v.len() == 1 => Ok(v.first().map(String::as_str)),
            Some(other) => Err(mistyped(key, other, "a string")),
        }
    }

    /// A single value.
    fn scalar<T>(
        &self,
        key: &str,
        wanted: &'static str,
        convert: impl Fn(&Value) -> Option<T>,
    ) -> Result<Option<T>, GgufError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let found = match value {
            Value::Array(array) => array.only().and_then(|value| convert(&value)),
            value => convert(value),
        };
        found.map(Some).ok_or_else(|| mistyped(key, value, wanted))
    }

    /// An integer from 0 to 2³² - 1.
    pub fn u32(&self, key: &str) -> Result<Option<u32>, GgufError> {
        self.scalar(key, "an integer from 0 to 4294967295", |value| value.integer()?.try_into().ok())
    }

    /// An integer from 0 to 2⁶⁴ - 1.
    pub fn u64(&self, key: &str) -> Result<Option<u64>, GgufError> {
        self.scalar(key, "an integer, at least 0", |value| value.integer()?.try_into().ok())
    }

    /// A number, rounded to f32.
    pub fn f32(&self, key: &str) -> Result<Option<f32>, GgufError> {
        self.scalar(key, "a number", Value::float)
    }

    /// A boolean.
    pub fn bool(&self, key: &str) -> Result<Option<bool>, GgufError> {
        self.scalar(key, "true or false", Value::flag)
    }

    /// A list; a single value is a list of one.
    fn list<T: Clone>(
        &self,
        key: &str,
        wanted: &'static str,
        convert: impl Fn(&Value) -> Option<T>,
    ) -> Result<Option<Vec<T>>, GgufError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        let found = match value {
            Value::Array(array) => array.convert(convert),
            value => convert(value).map(|x| vec![x]),
        };
        found.map(Some).ok_or_else(|| mistyped(key, value, wanted))
    }

    /// A list of strings.
    pub fn strings(&self, key: &str) -> Result<Option<&[String]>, GgufError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Array(Array::Strings(v))) => Ok(Some(v)),
            Some(other) => Err(mistyped(key, other, "a list of strings")),
        }
    }

    /// A list of booleans.
    pub fn bools(&self, key: &str) -> Result<Option<Vec<bool>>, GgufError> {
        self.list(key, "a list of true and false", Value::flag)
    }

    /// A list of integers that fit.
    pub fn i32s(&self, key: &str) -> Result<Option<Cow<'_, [i32]>>, GgufError> {
        if let Some(Value::Array(Array::I32(v))) = self.get(key) {
            return Ok(Some(Cow::Borrowed(v)));
        }
        let list = self.list(key, "a list of integers", |value| value.integer()?.try_into().ok())?;
        Ok(list.map(Cow::Owned))
    }

    /// A list of integers from 0 to 2⁶⁴ - 1.
    pub fn u64s(&self, key: &str) -> Result<Option<Vec<u64>>, GgufError> {
        self.list(key, "a list of integers, at least 0", |value| value.integer()?.try_into().ok())
    }

    /// A list of numbers, rounded to f32.
    pub fn f32s(&self, key: &str) -> Result<Option<Cow<'_, [f32]>>, GgufError> {
        match self.get(key) {
            Some(Value::Array(Array::F32(v))) => Ok(Some(Cow::Borrowed(v))),
            _ => Ok(self.list(key, "a list of numbers", Value::float)?.map(Cow::Owned)),
        }
    }
}

fn mistyped(key: &str, value: &Value, wanted: &'static str) -> GgufError {
    GgufError::Type { key: super::error::shorten(key), found: value.kind(), wanted }
}
