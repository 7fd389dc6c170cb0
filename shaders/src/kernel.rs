//! The kernels and their variants, as types. Only variants that exist can be expressed, and all of them are
//! composed and validated when the crate is built.

use std::fmt;

// The build script includes this file, too, and looks for modules elsewhere without a path.
#[path = "kv.rs"]
mod kv;
#[path = "train.rs"]
pub(crate) mod train;
pub use kv::{Blocks, Keys, Kv};
pub use train::Train;

/// How a weight is stored on a device: a file in `wgsl/weight` that declares a `quants` buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Layout {
    pub(crate) name: &'static str,
    pub(crate) is_packed: bool,
}

/// A layout that can unpack its integers to bytes, for integer dot products.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Packed(Layout);

impl Layout {
    /// The name of the layout and its file.
    pub fn name(self) -> &'static str {
        self.name
    }

    /// This layout for integer dot products, if it supports them.
    pub fn packed(self) -> Option<Packed> {
        self.is_packed.then_some(Packed(self))
    }
}

/// What a projection multiplies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operands {
    /// Activations as floats.
    Floats(Layout),
    /// Activations as floats, RMS-normalised as they are read.
    Normed(Layout),
    /// Activations quantised to 8 bits.
    Int8(Packed),
}

/// What a kernel does with a projection's sums: the tail of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tail {
    /// The main part.
    pub output: Output,
    /// Whether a bias is added first.
    pub bias: bool,
    /// Whether low-rank paths are added before that.
    pub low: bool,
}

/// The main part of a tail: a file in `wgsl/matmul/output`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Output {
    /// Stored, optionally after an activation.
    Plain,
    /// Added to the residual stream.
    Residual,
    /// `activation(gate) * up`, where the weight holds the rows of both.
    Gated,
    /// Queries, keys and values: queries and keys are rotated, keys and values are written to the KV pool.
    Heads,
}

/// How the threads that share rows of a weight add up their sums.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lanes {
    /// Threads share no rows.
    One,
    /// In workgroup memory.
    Shared,
    /// By subgroup operations.
    Subgroup,
}

/// The numbers of a tile in workgroup memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Staged {
    /// f32.
    F32(Layout),
    /// f16.
    F16(Layout),
    /// Bytes.
    Int8(Packed),
}

/// Step rows per tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tile {
    /// 32.
    Small,
    /// 64.
    Large,
}

/// A kernel with its settings. Each kernel is a file in `wgsl/`, which says what it computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Kernel {
    Embed(Layout, Numbers),
    Norm {
        kind: NormKind,
        weight: bool,
        bias: bool,
        /// Whether a residual is added.
        add: bool,
        numbers: Numbers,
    },
    /// `normed`: an RMS norm comes first.
    Quantise {
        normed: bool,
    },
    /// For steps of one row.
    Matvec(Operands, Tail, Lanes),
    /// For steps of a few rows.
    MatmulFew(Operands, Tail, Lanes),
    /// For steps of many rows.
    Matmul(Staged, Tile),
    RopeTable,
    Rope,
    KvWrite(Kv),
    /// `wide`: for values of more than 128 dimensions; `grouped`: up to four queries per workgroup.
    Attention {
        wide: bool,
        grouped: bool,
        keys: Keys,
        sinks: bool,
    },
    /// For software devices.
    AttentionFew {
        room: Room,
        keys: Keys,
        sinks: bool,
    },
    AttentionMerge,
    /// `norms`: queries and keys are normalised.
    HeadsEnd {
        norms: bool,
        kv: Kv,
    },
    Elementwise(Elementwise, Numbers),
    Pad,
    SelectRows(Numbers),
    Route,
    Experts {
        layout: Layout,
        lanes: Lanes,
        bias: bool,
        /// Whether gates and their partners are computed together.
        gated: bool,
    },
    /// `add`: whether a residual is added.
    ExpertSum {
        add: bool,
    },
    /// Pairs of rows and experts, sorted by expert.
    ExpertSort,
    /// For steps of many rows, sorted by expert.
    ExpertMatmul {
        staged: Staged,
        bias: bool,
    },
    /// `adjusted`: penalties and biases are applied to the logits.
    LikeliestPart {
        adjusted: bool,
    },
    Likeliest,
    ChoiceCount,
    ChoiceRace,
    ChoiceEnd,
    /// For training.
    Train(Train),
    BenchMemory {
        copy: bool,
    },
    BenchMultiplyAdd(Number),
}

/// How many numbers a thread reads at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Numbers {
    /// 1.
    One,
    /// 4, where rows are a multiple.
    Four,
}

/// How a norm measures a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NormKind {
    /// By its root mean square.
    Rms,
    /// By its mean and variance.
    Layer,
}

/// What becomes of numbers in the same place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Elementwise {
    /// A function of one.
    Unary,
    /// A function of one, times another.
    Gated,
    /// Their sum.
    Add,
    /// Their product.
    Mul,
    /// The sum with a vector that all rows share.
    Bias,
}

/// The largest head dimension that the kernel supports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Room {
    /// 64.
    Small,
    /// 128.
    Medium,
    /// 512.
    Large,
}

/// The type of the numbers that a bench multiplies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Number {
    F32,
    F16,
    Int8,
}

impl Operands {
    fn settings(self) -> [(&'static str, &'static str); 2] {
        let (layout, x) = match self {
            Operands::Floats(layout) => (layout, "plain"),
            Operands::Normed(layout) => (layout, "normed"),
            Operands::Int8(Packed(layout)) => (layout, "int8"),
        };
        [("WEIGHT", layout.name), ("X", x)]
    }
}

impl Staged {
    fn settings(self) -> [(&'static str, &'static str); 2] {
        let (layout, staged) = match self {
            Staged::F32(layout) => (layout, "f32"),
            Staged::F16(layout) => (layout, "f16"),
            Staged::Int8(Packed(layout)) => (layout, "int8"),
        };
        [("WEIGHT", layout.name), ("STAGED", staged)]
    }
}

impl Tail {
    fn settings(self) -> [(&'static str, &'static str); 2] {
        let output = match self.output {
            Output::Plain => "plain",
            Output::Residual => "residual",
            Output::Gated => "gated",
            Output::Heads => "heads",
        };
        let bias = match (self.bias, self.low) {
            (false, false) => "none",
            (true, false) => "bias",
            (false, true) => "low",
            (true, true) => "bias_low",
        };
        [("OUTPUT", output), ("BIAS", bias)]
    }
}

impl Lanes {
    fn setting(self) -> (&'static str, &'static str) {
        let lanes = match self {
            Lanes::One => "one",
            Lanes::Shared => "shared",
            Lanes::Subgroup => "subgroup",
        };
        ("LANES", lanes)
    }
}

impl Numbers {
    /// How many.
    pub fn count(self) -> usize {
        match self {
            Numbers::One => 1,
            Numbers::Four => 4,
        }
    }

    /// As many as rows of this width allow.
    pub fn of(width: usize) -> Self {
        if width.is_multiple_of(4) { Numbers::Four } else { Numbers::One }
    }

    fn setting(self) -> (&'static str, &'static str) {
        ("NUMBERS", if self == Numbers::Four { "4" } else { "1" })
    }
}

impl Kernel {
    /// The kernel's file in `wgsl/` and the values of its settings.
    pub(crate) fn settings(self) -> Vec<(&'static str, &'static str)> {
        let of = |file, settings: &[(&'static str, &'static str)]| [&[("FILE", file)], settings].concat();
        let projection = |file, operands: Operands, tail: Tail, lanes: Lanes| {
            of(file, &[&operands.settings()[..], &tail.settings(), &[lanes.setting()]].concat())
        };
        let yes_or = |is, yes, no| if is { yes } else { no };
        match self {
            Kernel::Embed(layout, numbers) => {
                of("embed/embed", &[("WEIGHT", layout.name), numbers.setting()])
            }
            Kernel::Norm { kind, weight, bias, add, numbers } => {
                let kind = ("KIND", yes_or(kind == NormKind::Rms, "rms", "layer"));
                let vectors =
                    [("WEIGHT", yes_or(weight, "weight", "none")), ("BIAS", yes_or(bias, "bias", "none"))];
                let add = ("ADD", yes_or(add, "add", "none"));
                of("norm/norm", &[&[kind][..], &vectors, &[add, numbers.setting()]].concat())
            }
            Kernel::Quantise { normed } => of("norm/quantise", &[("X", yes_or(normed, "normed", "plain"))]),
            Kernel::Matvec(operands, tail, lanes) => projection("matmul/matvec", operands, tail, lanes),
            Kernel::MatmulFew(operands, tail, lanes) => {
                projection("matmul/matmul_few", operands, tail, lanes)
            }
            Kernel::Matmul(staged, tile) => {
                let tile = if tile == Tile::Small { "32" } else { "64" };
                let experts = [("TILE", tile), ("EXPERTS", "none"), ("BIAS", "none")];
                of("matmul/matmul", &[&staged.settings()[..], &experts].concat())
            }
            Kernel::ExpertMatmul { staged, bias } => {
                let bias = ("BIAS", yes_or(bias, "bias", "none"));
                let experts = [("TILE", "32"), ("EXPERTS", "experts"), bias];
                of("matmul/matmul", &[&staged.settings()[..], &experts].concat())
            }
            Kernel::ExpertSort => of("experts/sort", &[]),
            Kernel::RopeTable => of("attention/rope_table", &[]),
            Kernel::Rope => of("attention/rope", &[]),
            Kernel::KvWrite(kv) => of("attention/kv_write", &[kv.setting()]),
            Kernel::Attention { wide, grouped, keys, sinks } => {
                let settings = [("PAIRS", yes_or(wide, "4", "1")), ("QUERIES", yes_or(grouped, "4", "1"))];
                let sinks = ("SINKS", yes_or(sinks, "sinks", "none"));
                of("attention/attention", &[&settings[..], &keys.settings(), &[sinks]].concat())
            }
            Kernel::AttentionFew { room, keys, sinks } => {
                let parts = match (room, keys == Keys::Two) {
                    (Room::Small, false) => "16",
                    (Room::Small, true) | (Room::Medium, false) => "32",
                    (Room::Medium, true) => "64",
                    (Room::Large, false) => "128",
                    (Room::Large, true) => "256",
                };
                let sinks = ("SINKS", yes_or(sinks, "sinks", "none"));
                of("attention/attention_few", &[&[("PARTS", parts)][..], &keys.settings(), &[sinks]].concat())
            }
            Kernel::AttentionMerge => of("attention/attention_merge", &[]),
            Kernel::HeadsEnd { norms, kv } => {
                of("attention/heads_end", &[("NORMS", yes_or(norms, "norms", "none")), kv.setting()])
            }
            Kernel::Elementwise(op, numbers) => {
                let op = match op {
                    Elementwise::Unary => "unary",
                    Elementwise::Gated => "gated",
                    Elementwise::Add => "add",
                    Elementwise::Mul => "mul",
                    Elementwise::Bias => "bias",
                };
                of("elementwise/elementwise", &[("OP", op), numbers.setting()])
            }
            Kernel::Pad => of("elementwise/pad", &[]),
            Kernel::SelectRows(numbers) => of("output/select_rows", &[numbers.setting()]),
            Kernel::Route => of("experts/route", &[]),
            Kernel::Experts { layout, lanes, bias, gated } => {
                let bias = ("BIAS", yes_or(bias, "bias", "none"));
                let tail = ("TAIL", yes_or(gated, "gated", "plain"));
                of("experts/experts", &[("WEIGHT", layout.name), tail, bias, lanes.setting()])
            }
            Kernel::ExpertSum { add } => of("experts/expert_sum", &[("ADD", yes_or(add, "add", "none"))]),
            Kernel::LikeliestPart { adjusted } => {
                of("output/likeliest_part", &[("LOGIT", yes_or(adjusted, "adjusted", "plain"))])
            }
            Kernel::Likeliest => of("output/likeliest", &[]),
            Kernel::ChoiceCount => of("output/choice_count", &[]),
            Kernel::ChoiceRace => of("output/choice_race", &[]),
            Kernel::ChoiceEnd => of("output/choice_end", &[]),
            Kernel::Train(train) => train.settings(),
            Kernel::BenchMemory { copy } => of("bench/memory", &[("MODE", yes_or(copy, "copy", "read"))]),
            Kernel::BenchMultiplyAdd(number) => {
                let number = match number {
                    Number::F32 => "f32",
                    Number::F16 => "f16",
                    Number::Int8 => "int8",
                };
                of("bench/multiply_add", &[("NUMBER", number)])
            }
        }
    }

    /// Every kernel with every setting, for these layouts.
    pub fn all(layouts: &[Layout]) -> Vec<Kernel> {
        use Kernel::*;
        let mut all = vec![RopeTable, Rope, AttentionMerge, Pad, Route, ExpertSort];
        all.extend([Likeliest, ChoiceCount, ChoiceRace, ChoiceEnd]);
        for kv in Kv::ALL {
            all.extend([KvWrite(kv), HeadsEnd { norms: false, kv }, HeadsEnd { norms: true, kv }]);
        }
        for is in [false, true] {
            all.push(ExpertSum { add: is });
            all.extend([Quantise { normed: is }, LikeliestPart { adjusted: is }, BenchMemory { copy: is }]);
        }
        for numbers in [Numbers::One, Numbers::Four] {
            use self::Elementwise::*;
            all.extend([Unary, Gated, Add, Mul, Bias].map(|op| Kernel::Elementwise(op, numbers)));
            all.push(SelectRows(numbers));
            for bits in 0..8 {
                let [weight, bias, add] = [1, 2, 4].map(|bit| bits & bit != 0);
                let kinds = [NormKind::Rms, NormKind::Layer];
                all.extend(kinds.map(|kind| Norm { kind, weight, bias, add, numbers }));
            }
        }
        let blocks = [Blocks::Q8_0, Blocks::Q4_0].map(Keys::Blocks);
        for keys in [Keys::Two, Keys::Eight].into_iter().chain(blocks) {
            for sinks in [false, true] {
                for (wide, grouped) in [(false, false), (false, true), (true, false), (true, true)] {
                    all.push(Attention { wide, grouped, keys, sinks });
                }
                let rooms = [Room::Small, Room::Medium, Room::Large];
                all.extend(rooms.map(|room| AttentionFew { room, keys, sinks }));
            }
        }
        all.extend([Number::F32, Number::F16, Number::Int8].map(BenchMultiplyAdd));
        all.extend(self::Train::all(layouts).into_iter().map(Train));
        for &layout in layouts {
            all.extend([Numbers::One, Numbers::Four].map(|numbers| Embed(layout, numbers)));
            let int8 = layout.packed();
            let operands = [Operands::Floats(layout), Operands::Normed(layout)].into_iter();
            for operands in operands.chain(int8.map(Operands::Int8)) {
                for output in [Output::Plain, Output::Residual, Output::Gated, Output::Heads] {
                    for lanes in [Lanes::One, Lanes::Shared, Lanes::Subgroup] {
                        for (bias, low) in [(false, false), (true, false), (false, true), (true, true)] {
                            // With both, this would have more buffers than every device supports.
                            if output == Output::Heads && bias && low {
                                continue;
                            }
                            let tail = Tail { output, bias, low };
                            all.extend([Matvec(operands, tail, lanes), MatmulFew(operands, tail, lanes)]);
                        }
                    }
                }
            }
            for lanes in [Lanes::One, Lanes::Shared, Lanes::Subgroup] {
                for bias in [false, true] {
                    all.extend([false, true].map(|gated| Experts { layout, lanes, bias, gated }));
                }
            }
            let staged = [Staged::F32(layout), Staged::F16(layout)].into_iter();
            for staged in staged.clone() {
                all.extend([false, true].map(|bias| ExpertMatmul { staged, bias }));
            }
            for staged in staged.chain(int8.map(Staged::Int8)) {
                all.extend([Tile::Small, Tile::Large].map(|tile| Matmul(staged, tile)));
            }
        }
        all
    }
}

/// The file's name and the settings, such as `matmul.q4_0.f16.64.none.none`.
impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (_, value)) in self.settings().into_iter().enumerate() {
            match i {
                0 => f.write_str(value.rsplit('/').next().unwrap_or(value))?,
                _ => write!(f, ".{value}")?,
            }
        }
        Ok(())
    }
}
