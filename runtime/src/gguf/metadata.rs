//! Typed key-value pairs.

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

    /// Converts the elements of an integer array; `None` for other arrays, or if an element does not fit.
    fn integers<T>(&self, convert: impl Fn(i128) -> Option<T>) -> Option<Vec<T>> {
        match self {
            Array::U8(v) => v.iter().map(|&x| convert(x.into())).collect(),
            Array::I8(v) => v.iter().map(|&x| convert(x.into())).collect(),
            Array::U16(v) => v.iter().map(|&x| convert(x.into())).collect(),
            Array::I16(v) => v.iter().map(|&x| convert(x.into())).collect(),
            Array::U32(v) => v.iter().map(|&x| convert(x.into())).collect(),
            Array::I32(v) => v.iter().map(|&x| convert(x.into())).collect(),
            Array::U64(v) => v.iter().map(|&x| convert(x.into())).collect(),
            Array::I64(v) => v.iter().map(|&x| convert(x.into())).collect(),
            _ => None,
        }
    }
}

impl Value {
    /// An integer of any width.
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
            _ => return None,
        })
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

/// A file's key-value pairs, in its order. Getters return `None` if the key is absent or of another type.
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

    /// The value, if it is a string.
    pub fn str(&self, key: &str) -> Option<&str> {
        match self.get(key)? {
            Value::String(s) => Some(s),
            _ => None,
        }
    }

    /// The value, if it is an integer that fits.
    pub fn u32(&self, key: &str) -> Option<u32> {
        self.get(key)?.integer()?.try_into().ok()
    }

    /// The value, if it is an integer that fits.
    pub fn u64(&self, key: &str) -> Option<u64> {
        self.get(key)?.integer()?.try_into().ok()
    }

    /// The value, if it is a float; rounded to f32.
    pub fn f32(&self, key: &str) -> Option<f32> {
        match *self.get(key)? {
            Value::F32(x) => Some(x),
            Value::F64(x) => Some(x as f32),
            _ => None,
        }
    }

    /// The value, if it is a boolean.
    pub fn bool(&self, key: &str) -> Option<bool> {
        match *self.get(key)? {
            Value::Bool(x) => Some(x),
            _ => None,
        }
    }

    /// The value, if it is an array.
    pub fn array(&self, key: &str) -> Option<&Array> {
        match self.get(key)? {
            Value::Array(array) => Some(array),
            _ => None,
        }
    }

    /// The value, if it is an array of strings.
    pub fn strings(&self, key: &str) -> Option<&[String]> {
        match self.array(key)? {
            Array::Strings(v) => Some(v),
            _ => None,
        }
    }

    /// The value, if it is an array of booleans.
    pub fn bools(&self, key: &str) -> Option<&[bool]> {
        match self.array(key)? {
            Array::Bool(v) => Some(v),
            _ => None,
        }
    }

    /// The value, if it is an array of integers that all fit.
    pub fn i32s(&self, key: &str) -> Option<Cow<'_, [i32]>> {
        match self.array(key)? {
            Array::I32(v) => Some(Cow::Borrowed(v)),
            array => array.integers(|x| x.try_into().ok()).map(Cow::Owned),
        }
    }

    /// The value, if it is an array of integers that all fit.
    pub fn u32s(&self, key: &str) -> Option<Cow<'_, [u32]>> {
        match self.array(key)? {
            Array::U32(v) => Some(Cow::Borrowed(v)),
            array => array.integers(|x| x.try_into().ok()).map(Cow::Owned),
        }
    }

    /// The value, if it is an array of floats or integers; rounded to f32.
    pub fn f32s(&self, key: &str) -> Option<Cow<'_, [f32]>> {
        match self.array(key)? {
            Array::F32(v) => Some(Cow::Borrowed(v)),
            Array::F64(v) => Some(v.iter().map(|&x| x as f32).collect()),
            array => array.integers(|x| Some(x as f32)).map(Cow::Owned),
        }
    }
}
