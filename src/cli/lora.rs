use clap::Args;

use crate::qwen3::LowRank;

/// Whether a low-rank addition learns in the place of the weights.
#[derive(Debug, Args)]
pub(super) struct Lora {
    /// Train a low-rank adapter, the model's own weights stay: 16,32,all or 8,16,q_proj,v_proj.
    ///
    /// Targets are q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj and down_proj, or all. What is written is an adapter in
    /// peft's layout; with --adapter training goes on with one.
    #[arg(long, value_name = "RANK,ALPHA,TARGETS", value_parser = low_rank)]
    lora: Option<LowRank>,
}

impl Lora {
    /// The settings that the flag stands for.
    pub(super) fn settings(&self) -> [(&'static str, Option<String>); 3] {
        let told = |f: fn(&LowRank) -> String| self.lora.as_ref().map(f);
        [
            ("lora.rank", told(|low| low.rank().to_string())),
            ("lora.alpha", told(|low| format!("{:?}", low.alpha()))),
            ("lora.targets", told(|low| format!("{:?}", low.targets()))),
        ]
    }
}

fn low_rank(text: &str) -> Result<LowRank, String> {
    let parts: Vec<&str> = text.split(',').map(str::trim).collect();
    let [rank, alpha, targets @ ..] = parts.as_slice() else {
        return Err("expected RANK,ALPHA,TARGETS: 16,32,all".into());
    };
    let rank = rank.parse().map_err(|_| format!("rank `{rank}` is no whole number"))?;
    let alpha = alpha.parse().map_err(|_| format!("alpha `{alpha}` is no number"))?;
    LowRank::new(rank, alpha, targets).map_err(|e| e.to_string())
}
