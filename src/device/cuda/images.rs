/// The compiled kernels, an image a stem: code for sm_80 and sm_90a, and PTX for what came later. Empty where the build
/// found no nvcc.
static IMAGES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/images.rs"));

/// Whether this build has kernels.
pub(super) fn built() -> bool {
    !IMAGES.is_empty()
}

/// The image of a stem.
pub(super) fn image(stem: &str) -> Option<&'static [u8]> {
    IMAGES.iter().find(|(name, _)| *name == stem).map(|(_, image)| *image)
}
