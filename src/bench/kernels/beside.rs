use serde::Serialize;
use serde_json::{Map, Value};

use super::Spread;
use crate::bench::peer::Peer;
use crate::bench::{BenchError, Middle};

/// What a peer did with a case.
#[derive(Clone, Debug, Serialize)]
pub struct Beside {
    /// How it was started.
    pub command: String,
    /// What it said of itself when it was ready.
    pub ready: Value,
    /// How it went.
    #[serde(flatten)]
    pub theirs: Theirs,
}

/// How it went.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum Theirs {
    /// It did every repeat, each right after one of ours.
    Measured {
        /// Seconds of a repeat.
        seconds: Spread,
        /// Its seconds over ours, pair by pair: above 1 where we are faster.
        ratio: Middle,
        /// What else it said of its last repeat.
        more: Map<String, Value>,
    },
    /// It did not.
    Absent {
        /// Why.
        absent: String,
    },
}

/// Peers that answer to the names of cases.
pub(super) struct Peers(Vec<Held>);

/// One of them, and what it has done of the case at hand.
struct Held {
    command: String,
    peer: Peer,
    pairs: Vec<[f64; 2]>,
    more: Map<String, Value>,
    absent: Option<String>,
    /// Its process has ended.
    gone: bool,
}

impl Peers {
    pub(super) fn start(commands: &[String]) -> Result<Self, BenchError> {
        let held = |command: &String| {
            let (peer, command) = (Peer::start(command)?, command.clone());
            Ok(Held { command, peer, pairs: Vec::new(), more: Map::new(), absent: None, gone: false })
        };
        Ok(Self(commands.iter().map(held).collect::<Result<_, BenchError>>()?))
    }

    /// Lets each check and warm the case, so that nothing of that stands between repeats.
    pub(super) fn prepare(&mut self, name: &str) {
        for held in &mut self.0 {
            held.ask(name);
        }
    }

    /// Lets each do a repeat after one of ours that took `ours` seconds.
    pub(super) fn follow(&mut self, name: &str, ours: f64) {
        for held in &mut self.0 {
            if let Some(theirs) = held.ask(name) {
                held.pairs.push([ours, theirs]);
            }
        }
    }

    /// Ends the case.
    pub(super) fn done(&mut self) -> Vec<Beside> {
        self.0.iter_mut().map(Held::done).collect()
    }
}

impl Held {
    /// Seconds of a repeat; none once the case is absent here.
    fn ask(&mut self, name: &str) -> Option<f64> {
        if self.gone || self.absent.is_some() {
            return None;
        }
        let said = match self.peer.answer(name) {
            Ok(Value::Object(said)) => said,
            Ok(other) => Map::from_iter([("absent".to_owned(), other)]),
            Err(error) => {
                self.gone = true;
                Map::from_iter([("absent".to_owned(), error.to_string().into())])
            }
        };
        let seconds = said.get("seconds").and_then(Value::as_f64).filter(|seconds| *seconds > 0.0);
        match seconds {
            Some(_) => self.more = said,
            None => {
                let reason = said.get("absent").and_then(Value::as_str);
                self.absent = Some(reason.map_or_else(|| format!("it said {said:?}"), str::to_owned));
            }
        }
        seconds
    }

    fn done(&mut self) -> Beside {
        let (pairs, mut more) = (std::mem::take(&mut self.pairs), std::mem::take(&mut self.more));
        more.remove("seconds");
        let gone = || "it had ended".to_owned();
        let theirs = match self.absent.take().or_else(|| pairs.is_empty().then(gone)) {
            Some(absent) => Theirs::Absent { absent },
            None => Theirs::Measured {
                seconds: Spread::of(pairs.iter().map(|[_, theirs]| *theirs).collect()),
                ratio: Middle::of(pairs.iter().map(|[ours, theirs]| theirs / ours)),
                more,
            },
        };
        Beside { command: self.command.clone(), ready: self.peer.ready.clone(), theirs }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A peer in the shell: half a second for a, nothing for b; it ends at c.
    const SHELL: &str = r#"echo '{"ready": {"peer": "shell"}}'
        while read name; do case $name in
            a) echo '{"seconds": 0.5, "error": 0.125}';;
            b) echo '{"absent": "no b"}';;
            *) exit;;
        esac; done"#;

    fn one(peers: &mut Peers, name: &str) -> Theirs {
        peers.prepare(name);
        for ours in [0.25, 0.125, 0.5] {
            peers.follow(name, ours);
        }
        peers.done().remove(0).theirs
    }

    #[test]
    fn a_peer_is_compared_pair_by_pair_and_what_it_lacks_is_said() {
        let mut peers = Peers::start(&[SHELL.to_owned()]).expect("a shell");
        for _ in 0..2 {
            let Theirs::Measured { seconds, ratio, more } = one(&mut peers, "a") else { panic!("it has a") };
            assert_eq!((seconds.median, seconds.repeats), (0.5, 3));
            assert_eq!((ratio.median, ratio.low, ratio.high), (2.0, 1.0, 4.0));
            assert_eq!(more.keys().collect::<Vec<_>>(), ["error"]);
            assert!(matches!(one(&mut peers, "b"), Theirs::Absent { absent } if absent == "no b"));
        }
        assert!(matches!(one(&mut peers, "c"), Theirs::Absent { absent } if absent.contains("it ended")));
        assert!(matches!(one(&mut peers, "a"), Theirs::Absent { .. }), "it is gone");
    }
}
