//! The kernels of training and their variants, as types.

use super::{Layout, NormKind};

/// Kernels of training that inference does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Train {
    /// Dequantises rows of a matrix.
    Unpack(Layout),
    /// A product of matrices of f32.
    Product,
    /// The gradient of a norm.
    NormBack {
        /// How it measures.
        kind: NormKind,
        /// Whether it has a weight.
        weight: bool,
    },
    /// Rotary embedding and its gradient.
    Turn,
    /// Attention over the step's own rows.
    Attend {
        /// Whether it has sinks.
        sinks: bool,
    },
    /// The gradient of queries.
    AttendQueries,
    /// The gradients of keys and values.
    AttendKeys,
    /// The gradient of an elementwise op.
    Slope(Slope),
    /// The gradient of chosen rows.
    RowsBack,
    /// Cross-entropy and its gradient.
    Loss,
    /// Sums of numbers, or of their squares.
    Total,
    /// A step of AdamW.
    Adam,
}

/// What a number's gradient is multiplied by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Slope {
    /// 1.
    Add,
    /// The other number.
    Mul,
    /// The slope of a function.
    Unary,
    /// The slope of a gated pair by its gate.
    Gate,
    /// That by its partner.
    Partner,
}

impl Train {
    pub(super) fn settings(self) -> Vec<(&'static str, &'static str)> {
        match self {
            Train::Unpack(layout) => vec![("FILE", "train/unpack"), ("WEIGHT", layout.name)],
            Train::Product => vec![("FILE", "train/product")],
            Train::NormBack { kind, weight } => {
                let kind = ("KIND", if kind == NormKind::Rms { "rms" } else { "layer" });
                vec![("FILE", "train/norm_back"), kind, ("WEIGHT", if weight { "weight" } else { "none" })]
            }
            Train::Turn => vec![("FILE", "train/turn")],
            Train::Attend { sinks } => {
                vec![("FILE", "train/attend"), ("SINKS", if sinks { "sinks" } else { "none" })]
            }
            Train::AttendQueries => vec![("FILE", "train/attend_queries")],
            Train::AttendKeys => vec![("FILE", "train/attend_keys")],
            Train::Slope(slope) => {
                let op = match slope {
                    Slope::Add => "add",
                    Slope::Mul => "mul",
                    Slope::Unary => "unary",
                    Slope::Gate => "gate",
                    Slope::Partner => "partner",
                };
                vec![("FILE", "train/slope"), ("OP", op)]
            }
            Train::RowsBack => vec![("FILE", "train/rows_back")],
            Train::Loss => vec![("FILE", "train/loss")],
            Train::Total => vec![("FILE", "train/total")],
            Train::Adam => vec![("FILE", "train/adam")],
        }
    }

    /// Every kernel with every setting, for these layouts.
    pub(super) fn all(layouts: &[Layout]) -> Vec<Train> {
        use Train::*;
        let mut all = vec![Product, Turn, AttendQueries, AttendKeys, RowsBack, Loss, Total, Adam];
        for is in [false, true] {
            all.push(Attend { sinks: is });
            all.extend([NormKind::Rms, NormKind::Layer].map(|kind| NormBack { kind, weight: is }));
        }
        let slopes = [self::Slope::Add, self::Slope::Mul, self::Slope::Unary];
        all.extend(slopes.map(Slope));
        all.extend([self::Slope::Gate, self::Slope::Partner].map(Slope));
        all.extend(layouts.iter().copied().map(Unpack));
        all
    }
}
