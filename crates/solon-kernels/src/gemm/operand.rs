//! What a caller says of a product's operands: how they lie, what they are rounded to, and where the result goes.

use crate::isa::isa;

/// What the products' inputs are rounded to. Sums are always f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// Inputs as they are.
    F32,
    /// Inputs rounded to bf16 (nearest, ties to even) while packing.
    Bf16,
}

impl Precision {
    /// bf16 where the processor multiplies it faster, f32 elsewhere.
    pub fn auto() -> Self {
        if isa().has_bf16() { Precision::Bf16 } else { Precision::F32 }
    }

    /// The name used on the command line and in reports.
    pub fn name(self) -> &'static str {
        match self {
            Precision::F32 => "f32",
            Precision::Bf16 => "bf16",
        }
    }
}

/// A matrix whose rows or columns are contiguous: element `(i, j)` is `data[i * row_stride + j * column_stride]`, and one of
/// the strides is 1.
#[derive(Clone, Copy)]
pub struct Strided<'a> {
    /// The elements.
    pub data: &'a [f32],
    /// Distance between rows.
    pub row_stride: usize,
    /// Distance between columns.
    pub column_stride: usize,
}

impl<'a> Strided<'a> {
    /// A row-major matrix with `columns` columns.
    pub fn rows(data: &'a [f32], columns: usize) -> Self {
        Self { data, row_stride: columns, column_stride: 1 }
    }

    /// The matrix from row `row` on.
    pub(super) fn rows_from(self, row: usize) -> Self {
        Self { data: &self.data[row * self.row_stride..], ..self }
    }

    /// The transpose of a row-major matrix with `columns` columns.
    pub fn transposed(data: &'a [f32], columns: usize) -> Self {
        Self { data, row_stride: 1, column_stride: columns }
    }
}

/// Whether the product replaces the output or is added to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    /// `C = A·B`.
    Replace,
    /// `C += A·B`.
    Add,
}
