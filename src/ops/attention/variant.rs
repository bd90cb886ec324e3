use crate::device::{Cuda, Kernel};

/// Queries and keys of a launch of the forward.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Packed,
    Paged,
    /// Paged, with so few queries that reading keys is all there is to do. Of wgmma, heads of 64 dims have no kernel of their
    /// own for it.
    Few,
}

/// Which tensor cores' instructions: one for all forms of a device, so that their bits agree.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Core {
    /// mma.sync: `kernels/attention_forward.cu`.
    Warp,
    /// wgmma, of compute capability 9.x: `kernels/attention_forward_wgmma.cu`.
    Warpgroup,
}

impl Core {
    /// The core of heads of `d` dims.
    pub(super) fn of(cuda: &Cuda, d: usize) -> Self {
        if cuda.capability()[0] == 9 && d >= 64 { Self::Warpgroup } else { Self::Warp }
    }
}

/// A line of the table in a kernel's header.
#[derive(Clone, Copy, Debug)]
pub(super) struct Variant {
    pub(super) form: Form,
    pub(super) core: Core,
    pub(super) d: usize,
}

impl Variant {
    pub(super) fn kernel(self) -> Kernel {
        let names = match (self.core, self.form) {
            (Core::Warp, Form::Packed) => [
                "attention_forward_bf16_packed_d16",
                "attention_forward_bf16_packed_d32",
                "attention_forward_bf16_packed_d64",
                "attention_forward_bf16_packed_d128",
            ],
            (Core::Warp, Form::Paged) => [
                "attention_forward_bf16_paged_d16",
                "attention_forward_bf16_paged_d32",
                "attention_forward_bf16_paged_d64",
                "attention_forward_bf16_paged_d128",
            ],
            (Core::Warp, Form::Few) => [
                "attention_forward_bf16_few_d16",
                "attention_forward_bf16_few_d32",
                "attention_forward_bf16_few_d64",
                "attention_forward_bf16_few_d128",
            ],
            (Core::Warpgroup, form) => {
                let names = match form {
                    Form::Packed => [
                        "attention_forward_bf16_packed_d64_wgmma",
                        "attention_forward_bf16_packed_d128_wgmma",
                    ],
                    Form::Paged => {
                        ["attention_forward_bf16_paged_d64_wgmma", "attention_forward_bf16_paged_d128_wgmma"]
                    }
                    Form::Few => {
                        ["attention_forward_bf16_paged_d64_wgmma", "attention_forward_bf16_few_d128_wgmma"]
                    }
                };
                return Kernel { stem: "attention_forward_wgmma", name: names[size_index(self.d) - 2] };
            }
        };
        Kernel { stem: "attention_forward", name: names[size_index(self.d)] }
    }

    /// Rows of a tile.
    pub(super) fn rows(self) -> usize {
        match (self.core, self.form) {
            (Core::Warp, Form::Few) => 16,
            (Core::Warpgroup, Form::Packed | Form::Paged) if self.d == 128 => 128,
            _ => 64,
        }
    }

    /// Warps that divide the columns of v.
    fn column_warps(self) -> usize {
        if self.core == Core::Warp && self.form == Form::Few { (self.d / 16).min(4) } else { 1 }
    }

    /// Threads that sum.
    fn summing(self) -> usize {
        2 * self.rows() * self.column_warps()
    }

    pub(super) fn threads(self) -> usize {
        match self.core {
            Core::Warp => self.summing(),
            Core::Warpgroup => self.summing() + 128,
        }
    }

    /// Bytes: a tile of queries; of keys and of values two tiles of 64, or a ring of 3 * 128 / D stages of 128.
    pub(super) fn shared(self) -> usize {
        let keys = match self.core {
            Core::Warp => 2 * self.d * (4 * 64),
            Core::Warpgroup => 2 * 2 * 128 * 384,
        };
        2 * self.d * self.rows() + keys
    }

    /// Tickets of a tile of one key head.
    pub(super) fn tickets(self) -> usize {
        match self.core {
            Core::Warp => 1,
            Core::Warpgroup => self.rows() / 64,
        }
    }

    /// Bytes that a chunk of one key head leaves in memory.
    pub(super) fn partial(self) -> usize {
        4 * self.summing() * (4 + self.d / self.column_warps() / 2)
    }
}

/// The kernels of a backward pass.
#[derive(Clone, Copy, Debug)]
pub(super) struct BackwardVariant {
    pub(super) core: Core,
    pub(super) d: usize,
}

impl BackwardVariant {
    /// Statistics, queries and keys: in the order of their launches.
    pub(super) fn kernels(self) -> [Kernel; 3] {
        let statistics = [
            "attention_backward_bf16_statistics_d16",
            "attention_backward_bf16_statistics_d32",
            "attention_backward_bf16_statistics_d64",
            "attention_backward_bf16_statistics_d128",
        ];
        let of_warps = [
            ["attention_backward_bf16_queries_d16", "attention_backward_bf16_keys_d16"],
            ["attention_backward_bf16_queries_d32", "attention_backward_bf16_keys_d32"],
            ["attention_backward_bf16_queries_d64", "attention_backward_bf16_keys_d64"],
            ["attention_backward_bf16_queries_d128", "attention_backward_bf16_keys_d128"],
        ];
        let of_warpgroups = [
            ["attention_backward_bf16_queries_d64_wgmma", "attention_backward_bf16_keys_d64_wgmma"],
            ["attention_backward_bf16_queries_d128_wgmma", "attention_backward_bf16_keys_d128_wgmma"],
        ];
        let size = size_index(self.d);
        let (stem, [queries, keys]) = match self.core {
            Core::Warp => ("attention_backward", of_warps[size]),
            Core::Warpgroup => ("attention_backward_wgmma", of_warpgroups[size - 2]),
        };
        [("attention_backward", statistics[size]), (stem, queries), (stem, keys)]
            .map(|(stem, name)| Kernel { stem, name })
    }

    /// Rows of a tile of queries, and keys of a tile of keys.
    pub(super) fn tile(self) -> usize {
        if self.core == Core::Warpgroup && self.d == 128 { 128 } else { 64 }
    }

    /// Rows of a tile that reads keys.
    pub(super) fn readers(self) -> usize {
        if self.core == Core::Warp && self.d == 128 { 32 } else { 64 }
    }

    /// Of queries and of keys.
    pub(super) fn threads(self) -> usize {
        match self.core {
            Core::Warp => 128,
            Core::Warpgroup => 2 * self.tile() + 128,
        }
    }

    /// Bytes: of queries, a tile of q and of dout, and two of keys and of values; of keys, a tile of k and of v, and two or four
    /// of rows' q, dout and statistics.
    pub(super) fn shared(self) -> [usize; 2] {
        let Self { core, d } = self;
        match core {
            Core::Warp => [4 * d * 64 + 8 * d * 64, 4 * d * 64 + 2 * self.readers() * (4 * d + 16)],
            Core::Warpgroup => {
                [4 * d * self.tile() + 8 * d * 128, 4 * d * self.tile() + 4 * 64 * (4 * d + 16)]
            }
        }
    }
}

/// Which of the kernels for 16, 32, 64 and 128 dims.
fn size_index(d: usize) -> usize {
    d.trailing_zeros() as usize - 4
}
