//! Which kernel of `kernels/product.cu` makes a product, and whether its tiles are split over leaves. No bit depends on it.

use crate::device::Cuda;
use crate::tensor::DType;

/// Depth that is summed from zero: `product::LEAF` of `kernels/product.cuh`.
pub(in crate::ops) const LEAF: usize = 1024;

/// Blocks that keep every SM of a large GPU busy: fewer are split over leaves, or take smaller tiles.
const BUSY: usize = 264;

/// A line of the table in `kernels/product.cu`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ops) enum Variant {
    Large,
    Medium,
    Few64,
    Few16,
    LargeGroups,
    MediumGroups,
    SmallGroups,
    FewGroups,
}

/// A variant and how the depth is dealt out: leaf by leaf to blocks of their own, or as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Choice {
    pub(super) variant: Variant,
    pub(super) split: bool,
}

/// Sides of c and depth.
#[derive(Clone, Copy, Debug)]
pub(in crate::ops) struct Extents {
    pub(in crate::ops) rows: usize,
    pub(in crate::ops) columns: usize,
    pub(in crate::ops) depth: usize,
}

impl Extents {
    fn leaves(self) -> usize {
        self.depth.div_ceil(LEAF)
    }
}

impl Variant {
    /// Rows and columns of c in a tile, threads, and bytes of shared memory.
    pub(in crate::ops) fn tile(self) -> ([usize; 2], u32, u32) {
        match self {
            Self::Large => ([128, 128], 256, 98_304),
            Self::Medium | Self::Few64 => ([64, 64], 128, 65_536),
            Self::Few16 => ([64, 16], 128, 61_440),
            Self::LargeGroups => ([128, 192], 384, 204_800),
            Self::MediumGroups => ([128, 128], 384, 196_608),
            Self::SmallGroups => ([64, 64], 256, 196_608),
            Self::FewGroups => ([64, 16], 256, 204_800),
        }
    }

    pub(in crate::ops) fn tiles(self, sides: Extents) -> usize {
        let ([m, n], ..) = self.tile();
        sides.rows.div_ceil(m) * sides.columns.div_ceil(n)
    }

    /// Counters of a tile: one for a block, or one for each warp that multiplies.
    pub(in crate::ops) fn tickets(self) -> usize {
        let (_, threads, _) = self.tile();
        if self.by_warpgroups() { (threads as usize - 128) / 32 } else { 1 }
    }

    /// Whether weights stand on the mma's M, and c is turned.
    pub(in crate::ops) fn turns(self) -> bool {
        matches!(self, Self::Few64 | Self::Few16 | Self::FewGroups)
    }

    /// Whether the kernel is one of `kernels/warpgroup_product.cuh`.
    pub(super) fn by_warpgroups(self) -> bool {
        matches!(self, Self::LargeGroups | Self::MediumGroups | Self::SmallGroups | Self::FewGroups)
    }

    /// About how many clocks an SM takes for a step of depth of a tile: as it multiplies 2048 pairs a clock, or fetches 40
    /// bytes a clock, which is its share of what the L2 cache of an H100 gives to all; whichever is longer.
    fn clocks(self, sides: Extents) -> usize {
        let ([m, n], ..) = self.tile();
        let fetched = 128 * (m.min(sides.rows) + n.min(sides.columns));
        (m * n * 64 / 2048).max(fetched / 40)
    }

    /// About how many clocks the busiest SM takes for all; the end of an item is about as long as two steps, and as six where
    /// its sums go through memory.
    fn time(self, sides: Extents, split: bool, multiprocessors: usize) -> usize {
        let (parts, end) = if split { (sides.leaves(), 6) } else { (1, 2) };
        let steps = sides.depth.div_ceil(64).div_ceil(parts) + end;
        (self.tiles(sides) * parts).div_ceil(multiprocessors) * steps * self.clocks(sides)
    }
}

/// Whether a device's products run on warpgroups: all of them, or none.
pub(in crate::ops) fn on_warpgroups(cuda: &Cuda) -> bool {
    cuda.capability()[0] == 9
}

/// Of these the one that takes the least time; of several the first.
fn quickest(variants: &[Variant], splits: &[bool], sides: Extents, multiprocessors: u32) -> Choice {
    let choices = variants.iter().flat_map(|variant| splits.iter().map(move |split| (*variant, *split)));
    let time = |(variant, split): &(Variant, bool)| variant.time(sides, *split, multiprocessors as usize);
    let (variant, split) = choices.min_by_key(time).expect("there are variants");
    Choice { variant, split }
}

const GROUPS: [Variant; 3] = [Variant::LargeGroups, Variant::MediumGroups, Variant::SmallGroups];

/// For y [rows, columns]. Where weights stand on M, the sides of c are changed about; no choice depends on which is which.
pub(super) fn of_forward(cuda: &Cuda, sides: Extents) -> Choice {
    let multiprocessors = cuda.driver().multiprocessors();
    let splits: &[bool] = if sides.leaves() > 1 { &[false, true] } else { &[false] };
    if !on_warpgroups(cuda) {
        let variant = match sides.rows {
            ..=16 => Variant::Few16,
            17..=64 => Variant::Few64,
            _ if Variant::Large.tiles(sides) < BUSY / 2 => Variant::Medium,
            _ => Variant::Large,
        };
        return by_warps(variant, sides);
    }
    if sides.rows <= 16 {
        let turned = Extents { rows: sides.columns, columns: sides.rows, ..sides };
        return quickest(&[Variant::FewGroups], splits, turned, multiprocessors);
    }
    quickest(&GROUPS, splits, sides, multiprocessors)
}

/// For dx [rows, columns].
pub(super) fn of_backward_input(cuda: &Cuda, sides: Extents) -> Choice {
    if !on_warpgroups(cuda) {
        return by_warps(backward_by_warps(sides), sides);
    }
    let splits: &[bool] = if sides.leaves() > 1 { &[false, true] } else { &[false] };
    quickest(&GROUPS, splits, sides, cuda.driver().multiprocessors())
}

/// For dw [rows, columns], whose leaves are given and added one after the other.
pub(super) fn of_backward_weight(cuda: &Cuda, sides: Extents) -> Choice {
    if !on_warpgroups(cuda) {
        return Choice { variant: backward_by_warps(sides), split: false };
    }
    quickest(&GROUPS, &[false], sides, cuda.driver().multiprocessors())
}

fn backward_by_warps(sides: Extents) -> Variant {
    if Variant::Large.tiles(sides) < BUSY / 2 { Variant::Medium } else { Variant::Large }
}

fn by_warps(variant: Variant, sides: Extents) -> Choice {
    let Extents { rows, columns, .. } = sides;
    let turned = Extents { rows: columns, columns: rows, ..sides };
    let tiles = variant.tiles(if variant.turns() { turned } else { sides });
    Choice { variant, split: sides.leaves() > 1 && tiles < BUSY }
}

/// The names of a direction's kernels.
pub(super) type Names = fn(Variant, DType) -> &'static str;

/// Of an output in bf16, or in f32.
fn stored(out: DType, names: [&'static str; 2]) -> &'static str {
    names[usize::from(out != DType::BF16)]
}

pub(super) fn forward_name(variant: Variant, out: DType) -> &'static str {
    let names = match variant {
        Variant::Large => ["product_forward_bf16_large", "product_forward_f32_large"],
        Variant::Medium => ["product_forward_bf16_medium", "product_forward_f32_medium"],
        Variant::Few64 => ["product_forward_bf16_few64", "product_forward_f32_few64"],
        Variant::Few16 => ["product_forward_bf16_few16", "product_forward_f32_few16"],
        Variant::LargeGroups => ["product_forward_bf16_large_wgmma", "product_forward_f32_large_wgmma"],
        Variant::MediumGroups => ["product_forward_bf16_medium_wgmma", "product_forward_f32_medium_wgmma"],
        Variant::SmallGroups => ["product_forward_bf16_small_wgmma", "product_forward_f32_small_wgmma"],
        Variant::FewGroups => ["product_forward_bf16_few_wgmma", "product_forward_f32_few_wgmma"],
    };
    stored(out, names)
}

pub(super) fn backward_input_name(variant: Variant, out: DType) -> &'static str {
    let names = match variant {
        Variant::Large => ["product_backward_input_bf16_large", "product_backward_input_f32_large"],
        Variant::LargeGroups => {
            ["product_backward_input_bf16_large_wgmma", "product_backward_input_f32_large_wgmma"]
        }
        Variant::MediumGroups => {
            ["product_backward_input_bf16_medium_wgmma", "product_backward_input_f32_medium_wgmma"]
        }
        Variant::SmallGroups => {
            ["product_backward_input_bf16_small_wgmma", "product_backward_input_f32_small_wgmma"]
        }
        _ => ["product_backward_input_bf16_medium", "product_backward_input_f32_medium"],
    };
    stored(out, names)
}

pub(super) fn backward_weight_name(variant: Variant, _: DType) -> &'static str {
    match variant {
        Variant::Large => "product_backward_weight_f32_large",
        Variant::LargeGroups => "product_backward_weight_f32_large_wgmma",
        Variant::MediumGroups => "product_backward_weight_f32_medium_wgmma",
        Variant::SmallGroups => "product_backward_weight_f32_small_wgmma",
        _ => "product_backward_weight_f32_medium",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Multiprocessors of an H100.
    const MANY: u32 = 132;

    fn quickest_of([rows, columns, depth]: [usize; 3], multiprocessors: u32) -> Choice {
        quickest(&GROUPS, &[false, true], Extents { rows, columns, depth }, multiprocessors)
    }

    #[test]
    fn products_of_many_tokens_take_the_largest_tiles_whole() {
        for [columns, depth] in [[4096, 4096], [12_288, 4096], [4096, 12_288]] {
            let choice = quickest_of([8192, columns, depth], MANY);
            assert_eq!(choice, Choice { variant: Variant::LargeGroups, split: false }, "{columns} {depth}");
        }
    }

    #[test]
    fn products_of_few_tiles_are_split_over_leaves() {
        assert_eq!(
            quickest_of([64, 1024, 4096], MANY),
            Choice { variant: Variant::SmallGroups, split: true }
        );
        let sides = Extents { rows: 4096, columns: 1, depth: 4096 };
        assert!(quickest(&[Variant::FewGroups], &[false, true], sides, MANY).split);
    }

    /// The three that `tests/kernels/product.rs` has, so that its shapes reach every kernel.
    #[test]
    fn on_three_multiprocessors_small_shapes_take_every_variant() {
        let choices = [[300, 400, 2100], [33, 3080, 136], [200, 72, 72], [40, 64, 3080], [128, 120, 2056]]
            .map(|sides| quickest_of(sides, 3));
        for variant in GROUPS {
            assert!(choices.iter().any(|choice| choice.variant == variant), "{variant:?} of {choices:?}");
        }
        assert!(choices.iter().any(|choice| choice.split), "{choices:?}");
    }
}
