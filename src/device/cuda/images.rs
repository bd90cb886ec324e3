/// Fat binaries by the stems of their kernels.
pub type Images = &'static [(&'static str, &'static [u8])];

/// The compiled kernels, an image a stem: code for sm_80 and sm_90a, and PTX for what came later. Empty where the build
/// found no nvcc.
static IMAGES: Images = include!(concat!(env!("OUT_DIR"), "/images.rs"));

/// Whether this build has kernels.
pub(super) fn built() -> bool {
    !IMAGES.is_empty()
}

/// The image of a stem, among the program's own and `more`.
pub(super) fn image(more: Images, stem: &str) -> Option<&'static [u8]> {
    IMAGES.iter().chain(more).find(|(name, _)| *name == stem).map(|(_, image)| *image)
}
