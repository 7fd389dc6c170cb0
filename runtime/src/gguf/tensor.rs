//! Entries of the tensor directory, and the types of tensors.

use std::fmt;

/// One tensor of the directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// The tensor's name, unique in its file.
    pub name: String,
    /// Row-major, last index fastest: GGUF's `ne` reversed. 1 to 4 dimensions, none of them zero.
    pub shape: Vec<u64>,
    /// How the elements are stored.
    pub ty: TensorType,
    /// Where the data begins, in bytes from the start of the file.
    pub offset: u64,
    /// Size of the data in bytes; 0 if the type is unknown.
    pub n_bytes: u64,
}

impl TensorInfo {
    /// The number of elements. The reader has checked that it fits into a `u64`.
    pub fn n_elements(&self) -> u64 {
        self.shape.iter().product()
    }
}

macro_rules! tensor_types {
    ($($variant:ident = $id:literal, $name:literal, $len:literal, $bytes:literal;)*) => {
        /// A ggml type: how elements are stored, in blocks along a row.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[allow(missing_docs, non_camel_case_types)] // The variants are ggml's types.
        pub enum TensorType {
            $($variant,)*
            /// A type that this reader does not know, nor its size.
            Unknown(u32),
        }

        impl TensorType {
            /// The type with this number in files.
            pub fn from_id(id: u32) -> Self {
                match id {
                    $($id => Self::$variant,)*
                    _ => Self::Unknown(id),
                }
            }

            /// The type's number in files.
            pub fn id(self) -> u32 {
                match self {
                    $(Self::$variant => $id,)*
                    Self::Unknown(id) => id,
                }
            }

            /// Elements per block; 0 if the type is unknown.
            pub fn block_len(self) -> u64 {
                match self {
                    $(Self::$variant => $len,)*
                    Self::Unknown(_) => 0,
                }
            }

            /// Bytes per block; 0 if the type is unknown.
            pub fn block_bytes(self) -> u64 {
                match self {
                    $(Self::$variant => $bytes,)*
                    Self::Unknown(_) => 0,
                }
            }
        }

        impl fmt::Display for TensorType {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                match self {
                    $(Self::$variant => f.write_str($name),)*
                    Self::Unknown(id) => write!(f, "type {id}"),
                }
            }
        }
    };
}

tensor_types! {
    F32 = 0, "F32", 1, 4;
    F16 = 1, "F16", 1, 2;
    Q4_0 = 2, "Q4_0", 32, 18;
    Q4_1 = 3, "Q4_1", 32, 20;
    Q5_0 = 6, "Q5_0", 32, 22;
    Q5_1 = 7, "Q5_1", 32, 24;
    Q8_0 = 8, "Q8_0", 32, 34;
    Q8_1 = 9, "Q8_1", 32, 36;
    Q2_K = 10, "Q2_K", 256, 84;
    Q3_K = 11, "Q3_K", 256, 110;
    Q4_K = 12, "Q4_K", 256, 144;
    Q5_K = 13, "Q5_K", 256, 176;
    Q6_K = 14, "Q6_K", 256, 210;
    Q8_K = 15, "Q8_K", 256, 292;
    IQ2_XXS = 16, "IQ2_XXS", 256, 66;
    IQ2_XS = 17, "IQ2_XS", 256, 74;
    IQ3_XXS = 18, "IQ3_XXS", 256, 98;
    IQ1_S = 19, "IQ1_S", 256, 50;
    IQ4_NL = 20, "IQ4_NL", 32, 18;
    IQ3_S = 21, "IQ3_S", 256, 110;
    IQ2_S = 22, "IQ2_S", 256, 82;
    IQ4_XS = 23, "IQ4_XS", 256, 136;
    I8 = 24, "I8", 1, 1;
    I16 = 25, "I16", 1, 2;
    I32 = 26, "I32", 1, 4;
    I64 = 27, "I64", 1, 8;
    F64 = 28, "F64", 1, 8;
    IQ1_M = 29, "IQ1_M", 256, 56;
    BF16 = 30, "BF16", 1, 2;
    TQ1_0 = 34, "TQ1_0", 256, 54;
    TQ2_0 = 35, "TQ2_0", 256, 66;
    MXFP4 = 39, "MXFP4", 32, 17;
    NVFP4 = 40, "NVFP4", 64, 36;
    Q1_0 = 41, "Q1_0", 128, 18;
    Q2_0 = 42, "Q2_0", 64, 18;
}

impl TensorType {
    /// ggml's name for the type, or a text such as "type 99" if it is unknown.
    pub fn name(self) -> String {
        self.to_string()
    }

    /// Bytes of a tensor of this type and row-major shape; 0 if the type is unknown. An error says what is
    /// wrong with the shape.
    pub fn tensor_bytes(self, shape: &[u64]) -> Result<u64, String> {
        if shape.is_empty() || shape.len() > 4 {
            return Err(format!("it has {} dimensions; only 1 to 4 are supported", shape.len()));
        }
        if shape.contains(&0) {
            return Err(format!("its shape {shape:?} has a dimension of zero"));
        }
        let n_elements = shape.iter().try_fold(1u64, |n, &d| n.checked_mul(d));
        let too_large = || format!("its shape {shape:?} is larger than any file");
        let n_elements = n_elements.ok_or_else(too_large)?;
        let (Some(&row), block_len @ 1..) = (shape.last(), self.block_len()) else {
            return Ok(0);
        };
        if row % block_len != 0 {
            return Err(format!("its rows of {row} elements are not whole {self} blocks of {block_len}"));
        }
        (n_elements / block_len).checked_mul(self.block_bytes()).ok_or_else(too_large)
    }
}
