//! Products: by weights, which are dequantised some rows at a time, and by LoRA's matrices.

use super::Training;
use crate::gpu::GpuError;
use crate::gpu::kernels::{Resource, whole};
use crate::graph::WeightId;
use crate::quant::BLOCK;
use nomoat_shaders::{Kernel, Layout, Train};
use std::ops::Range;

/// Numbers of a matrix that are unpacked together, about.
pub const UNPACKED: usize = 4 << 20;
/// The most workgroups per dimension of a dispatch.
const MAX_GROUPS: usize = 65_535;
/// Rows and columns that a workgroup of a product computes.
const TILE: usize = 32;

/// A matrix in a buffer: number `(i, k)` is at `at + i * row + k * step`.
#[derive(Clone, Copy)]
pub struct Matrix<'b> {
    pub buffer: &'b wgpu::Buffer,
    pub at: usize,
    pub row: usize,
    pub step: usize,
}

impl<'b> Matrix<'b> {
    /// Rows of so many numbers.
    pub fn rows(buffer: &'b wgpu::Buffer, at: usize, width: usize) -> Self {
        Self { buffer, at, row: width, step: 1 }
    }

    /// With rows as columns.
    pub fn turned(self) -> Self {
        Self { row: self.step, step: self.row, ..self }
    }
}

/// What becomes of a product.
#[derive(Clone, Copy)]
pub struct Times {
    pub factor: f32,
    /// Whether it is added to what is there.
    pub adds: bool,
}

/// LoRA's matrices of a product.
#[derive(Clone, Copy)]
pub struct Pair {
    /// Where A, `[rank, n_in]`, is in the parameters.
    pub a: usize,
    /// Where the product's rows of B, `[n_out, rank]`, are.
    pub b: usize,
    pub rank: usize,
    pub n_in: usize,
    pub n_out: usize,
    pub scale: f32,
}

const PUT: Times = Times { factor: 1.0, adds: false };
const ADD: Times = Times { factor: 1.0, adds: true };

impl Training<'_> {
    /// `c = factor * a b`, of `[rows, columns, depth]`.
    fn product(
        &mut self,
        [a, b, c]: [Matrix; 3],
        [n_rows, n_columns, depth]: [usize; 3],
        Times { factor, adds }: Times,
    ) -> Result<(), GpuError> {
        // Bindings begin at multiples of 256 bytes and may not be larger than a limit.
        let most = self.queue.gpu.info().max_binding_size / 4 * 4;
        let part = |name, matrix: &Matrix| -> (Resource, u32) {
            let start = matrix.at / 64 * 256;
            let size = (matrix.buffer.size() - start as u64).min(most);
            ((name, matrix.buffer.clone(), start as u64, Some(size)), (matrix.at % 64) as u32)
        };
        let ((of_a, a_at), (of_b, b_at), (of_c, c_at)) = (part("a", &a), part("b", &b), part("c", &c));
        let n = |n: usize| n as u32;
        let shape = [
            n(n_rows),
            n(n_columns),
            n(depth),
            u32::from(adds),
            factor.to_bits(),
            a_at,
            n(a.row),
            n(a.step),
            b_at,
            n(b.row),
            n(b.step),
            c_at,
            n(c.row),
        ];
        let grid = [n_columns.div_ceil(TILE), n_rows.div_ceil(TILE), 1];
        self.queue.run(
            Kernel::Train(Train::Product),
            &Vec::new(),
            ("shape", &shape),
            &[of_a, of_b, of_c],
            grid,
        )
    }

    /// Unpacks a matrix in runs of rows and calls `then` with each run and where it is.
    fn unpacked(
        &mut self,
        weight: WeightId,
        mut then: impl FnMut(&mut Self, Range<usize>, Matrix) -> Result<(), GpuError>,
    ) -> Result<(), GpuError> {
        let n_blocks = self.graph.graph.weight(weight).n_cols.div_ceil(BLOCK);
        let format = self.weights.formats[weight.0];
        let name = format.layout().name();
        let layout = Layout::find(name).ok_or_else(|| {
            GpuError::Internal(format!("there are no kernels for the weight layout {name}"))
        })?;
        let per_run = (UNPACKED / (n_blocks * BLOCK).max(1)).clamp(1, MAX_GROUPS);
        let scratch = self.queue.floats(UNPACKED.max(n_blocks * BLOCK))?;
        for piece in self.weights.pieces(weight) {
            let mut resources = vec![
                ("quants", piece.buffer.clone(), 0, Some(piece.planes.quants)),
                ("scales", piece.buffer.clone(), piece.planes.scales_offset, Some(piece.planes.scales)),
                whole("y", &scratch),
            ];
            resources.extend(self.queue.grid(format.layout()).map(|grid| whole("grid", &grid)));
            for first in (0..piece.n_rows).step_by(per_run) {
                let n = per_run.min(piece.n_rows - first);
                let rows = [piece.buffer_row + first, n, n_blocks].map(|n| n as u32);
                let grid = [n_blocks.div_ceil(64), n, 1];
                let kernel = Kernel::Train(Train::Unpack(layout));
                self.queue.run(kernel, &Vec::new(), ("rows", &rows), &resources, grid)?;
                let first = piece.first_row + first;
                then(self, first..first + n, Matrix::rows(&scratch, 0, n_blocks * BLOCK))?;
            }
        }
        self.queue.give_back(scratch);
        Ok(())
    }

    /// `y = x Wᵀ` for so many rows.
    pub fn multiply(
        &mut self,
        weight: WeightId,
        n_rows: usize,
        x: Matrix,
        y: Matrix,
    ) -> Result<(), GpuError> {
        let n_in = self.graph.graph.weight(weight).n_cols;
        self.unpacked(weight, |this, rows, w| {
            let y = Matrix { at: y.at + rows.start, ..y };
            this.product([x, w.turned(), y], [n_rows, rows.len(), n_in], PUT)
        })
    }

    /// `dx += dy W` for so many rows.
    pub fn multiply_back(
        &mut self,
        weight: WeightId,
        n_rows: usize,
        dy: Matrix,
        dx: Matrix,
    ) -> Result<(), GpuError> {
        let n_in = self.graph.graph.weight(weight).n_cols;
        self.unpacked(weight, |this, rows, w| {
            let dy = Matrix { at: dy.at + rows.start, ..dy };
            this.product([dy, w, dx], [n_rows, n_in, rows.len()], ADD)
        })
    }

    /// `y += scale * (x Aᵀ) Bᵀ`.
    pub fn multiply_low(
        &mut self,
        pair: Pair,
        n_rows: usize,
        x: &wgpu::Buffer,
        y: &wgpu::Buffer,
    ) -> Result<(), GpuError> {
        let Pair { rank, n_out, scale, .. } = pair;
        let parameters = self.parameters.clone();
        let u = self.low(pair, n_rows, x)?;
        let b = Matrix::rows(&parameters, pair.b, rank);
        let parts = [Matrix::rows(&u, 0, rank), b.turned(), Matrix::rows(y, 0, n_out)];
        self.product(parts, [n_rows, n_out, rank], Times { factor: scale, adds: true })?;
        self.queue.give_back(u);
        Ok(())
    }

    /// `x Aᵀ`.
    fn low(&mut self, pair: Pair, n_rows: usize, x: &wgpu::Buffer) -> Result<wgpu::Buffer, GpuError> {
        let Pair { rank, n_in, .. } = pair;
        let (parameters, u) = (self.parameters.clone(), self.queue.floats(n_rows * rank)?);
        let a = Matrix::rows(&parameters, pair.a, n_in);
        let parts = [Matrix::rows(x, 0, n_in), a.turned(), Matrix::rows(&u, 0, rank)];
        self.product(parts, [n_rows, rank, n_in], PUT)?;
        Ok(u)
    }

    /// Adds to the gradients of A, B and, if it is wanted, x.
    pub fn multiply_low_back(
        &mut self,
        pair: Pair,
        n_rows: usize,
        x: &wgpu::Buffer,
        dy: &wgpu::Buffer,
        dx: Option<&wgpu::Buffer>,
    ) -> Result<(), GpuError> {
        let Pair { rank, n_in, n_out, scale, .. } = pair;
        let (parameters, gradient) = (self.parameters.clone(), self.gradient.clone());
        let (a, b) = (Matrix::rows(&parameters, pair.a, n_in), Matrix::rows(&parameters, pair.b, rank));
        let (of_u, of_du) = (self.low(pair, n_rows, x)?, self.queue.floats(n_rows * rank)?);
        let (u, du) = (Matrix::rows(&of_u, 0, rank), Matrix::rows(&of_du, 0, rank));
        let (x, dy) = (Matrix::rows(x, 0, n_in), Matrix::rows(dy, 0, n_out));
        self.product([dy, b, du], [n_rows, rank, n_out], Times { factor: scale, adds: false })?;
        let db = Matrix::rows(&gradient, pair.b, rank);
        self.product([dy.turned(), u, db], [n_out, rank, n_rows], Times { factor: scale, adds: true })?;
        let da = Matrix::rows(&gradient, pair.a, n_in);
        self.product([du.turned(), x, da], [rank, n_in, n_rows], ADD)?;
        if let Some(dx) = dx {
            self.product([du, a, Matrix::rows(dx, 0, n_in)], [n_rows, n_in, rank], ADD)?;
        }
        self.queue.give_back(of_u);
        self.queue.give_back(of_du);
        Ok(())
    }
}
