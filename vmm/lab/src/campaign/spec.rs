//! The campaign file: which faults, under which configurations, how many.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::injection::{Configuration, FaultSegment, Mutation};
use platform::user_file;

/// What is wrong with a campaign file.
#[derive(Debug, thiserror::Error)]
pub enum SpecError {
    /// The file cannot be read.
    #[error("{file}: cannot be read: name an existing campaign file")]
    Read {
        /// The file.
        file: String,
        /// Why not.
        source: std::io::Error,
    },
    /// Not JSON, an unknown key, a wrong type.
    #[error("{file}: {at}: {what}")]
    Parse {
        /// The file.
        file: String,
        /// Path in the document, as `faults[1].code`.
        at: String,
        /// What is wrong, with line and column.
        what: String,
    },
    /// Well-formed, but not a campaign.
    #[error("{file}: {at}: {what}")]
    Check {
        /// The file.
        file: String,
        /// Path in the document.
        at: String,
        /// What is wrong, and how to mend it.
        what: String,
    },
}

/// A campaign.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CampaignSpec {
    /// Name for people.
    #[serde(default = "default_name")]
    pub name: String,
    /// The same seed gives the same list of faults.
    #[serde(default = "default_seed")]
    pub seed: u64,
    /// How the service recovers. With several, each fault is injected once under each.
    #[serde(default = "default_configurations")]
    pub configurations: Vec<Configuration>,
    /// What is injected; the kinds take turns by their weights.
    pub faults: Vec<FaultSpec>,
    /// When the campaign is over, whichever comes first, under each configuration.
    pub until: Until,
    /// Microseconds between two datagrams of the sender, 100 to 10,000: the judge takes a silence of
    /// 30 ms for one, so the datagrams must be closer.
    #[serde(default = "default_period_us")]
    pub period_us: u32,
    /// How long an activated fault is observed before it counts as masked, milliseconds, 50 to
    /// 10,000.
    #[serde(default = "default_observe_ms")]
    pub observe_ms: u32,
    /// How long execution may take to reach a fault, milliseconds, 5 to 10,000.
    #[serde(default = "default_reach_ms")]
    pub reach_ms: u32,
}

fn default_name() -> String {
    "campaign".into()
}

fn default_seed() -> u64 {
    1
}

fn default_configurations() -> Vec<Configuration> {
    vec![Configuration::FastSpare]
}

fn default_period_us() -> u32 {
    1000
}

fn default_observe_ms() -> u32 {
    200
}

fn default_reach_ms() -> u32 {
    60
}

/// When a campaign is over. At least one must be given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Until {
    /// Number of injections, activated or not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub injections: Option<u64>,
    /// Number of activated injections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub activated: Option<u64>,
    /// Number of detected failures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detected: Option<u64>,
}

/// A kind of fault, and where it is put.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub enum FaultSpec {
    /// A bit of an instruction byte.
    Code {
        /// How often it is drawn, relative to the other kinds.
        #[serde(default = "one")]
        weight: u32,
        /// The functions that it hits.
        #[serde(default)]
        functions: Functions,
        /// The order in which bytes are hit.
        #[serde(default)]
        order: ByteOrder,
    },
    /// A bit of a CPU register, when execution reaches an instruction.
    Register {
        /// How often it is drawn, relative to the other kinds.
        #[serde(default = "one")]
        weight: u32,
        /// The functions that it hits.
        #[serde(default)]
        functions: Functions,
        /// Whether the instruction pointer may be hit too.
        #[serde(default)]
        rip: bool,
        /// Whether the flags may be hit too.
        #[serde(default)]
        rflags: bool,
    },
    /// A bit of memory.
    Data {
        /// How often it is drawn, relative to the other kinds.
        #[serde(default = "one")]
        weight: u32,
        /// The segments that it hits: some of rodata, data, bss, stack, ring, frames, status.
        #[serde(default = "data_segments")]
        segments: Vec<FaultSegment>,
    },
    /// A bit of a NIC register or of an address in a DMA descriptor.
    Device {
        /// How often it is drawn, relative to the other kinds.
        #[serde(default = "one")]
        weight: u32,
        /// The segments that it hits: some of nic, descriptor.
        #[serde(default = "device_segments")]
        segments: Vec<FaultSegment>,
    },
    /// A programming error.
    Mutation {
        /// How often it is drawn, relative to the other kinds.
        #[serde(default = "one")]
        weight: u32,
        /// The functions that it hits.
        #[serde(default)]
        functions: Functions,
        /// The programming errors to draw from.
        #[serde(default = "mutations")]
        mutations: Vec<Mutation>,
    },
}

fn one() -> u32 {
    1
}

fn data_segments() -> Vec<FaultSegment> {
    use FaultSegment as S;
    vec![S::Rodata, S::Data, S::Bss, S::Stack, S::Ring, S::Frames, S::Status]
}

fn device_segments() -> Vec<FaultSegment> {
    vec![FaultSegment::Nic, FaultSegment::Descriptor]
}

fn mutations() -> Vec<Mutation> {
    Mutation::ALL.to_vec()
}

/// Functions of the driver.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Functions {
    /// The functions in which a sampling profile finds the driver under traffic.
    #[default]
    Profile,
    /// The driver's whole text.
    Text,
    /// The functions with these names in the image's symbol table.
    Named(Vec<String>),
}

/// In which order the bytes of code are hit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ByteOrder {
    /// At random.
    #[default]
    Random,
    /// Every byte in turn, at a random bit.
    Each,
}

impl FaultSpec {
    /// How often it is drawn, relative to the other kinds.
    pub(super) fn weight(&self) -> u32 {
        match self {
            Self::Code { weight, .. }
            | Self::Register { weight, .. }
            | Self::Data { weight, .. }
            | Self::Device { weight, .. }
            | Self::Mutation { weight, .. } => *weight,
        }
    }

    /// The functions that it hits, for a kind of fault that hits code.
    pub(super) fn functions(&self) -> Option<&Functions> {
        match self {
            Self::Code { functions, .. }
            | Self::Register { functions, .. }
            | Self::Mutation { functions, .. } => Some(functions),
            Self::Data { .. } | Self::Device { .. } => None,
        }
    }
}

/// A value that is well-formed and makes no sense.
struct Mistake {
    /// Path in the document.
    at: String,
    /// What is wrong, and how to mend it.
    what: String,
}

impl CampaignSpec {
    /// Reads and checks a campaign file.
    ///
    /// # Errors
    /// See [`SpecError`]; each is one line.
    pub(super) fn load(path: &Path) -> Result<Self, SpecError> {
        let file = path.display().to_string();
        let text = user_file::read_text(path, user_file::CAMPAIGN_BYTES)
            .map_err(|source| SpecError::Read { file: file.clone(), source })?;
        Self::parse(&file, &text)
    }

    /// Parses and checks the text of a campaign file.
    ///
    /// # Errors
    /// See [`SpecError`].
    pub fn parse(file: &str, text: &str) -> Result<Self, SpecError> {
        let mut reader = serde_json::Deserializer::from_str(text);
        let spec: Self = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
            let at = error.path().to_string();
            let at = if at == "." { "the file".into() } else { at };
            SpecError::Parse { file: file.into(), at, what: error.inner().to_string() }
        })?;
        let rest = reader.end();
        rest.map_err(|error| SpecError::Parse {
            file: file.into(),
            at: "the file".into(),
            what: error.to_string(),
        })?;
        match spec.check() {
            Ok(()) => Ok(spec),
            Err(Mistake { at, what }) => Err(SpecError::Check { file: file.into(), at, what }),
        }
    }

    fn check(&self) -> Result<(), Mistake> {
        let wrong = |at: &str, what: &str| Err(Mistake { at: at.into(), what: what.into() });
        if self.configurations.is_empty() {
            return wrong("configurations", "is empty: name one, as \"fast-spare\"");
        }
        for (n, configuration) in self.configurations.iter().enumerate() {
            if self.configurations[..n].contains(configuration) {
                let at = format!("configurations[{n}]");
                return wrong(&at, "stands here twice: name each once");
            }
        }
        if self.faults.is_empty() {
            return wrong("faults", "is empty: name one, as {\"code\": {}}");
        }
        for (n, fault) in self.faults.iter().enumerate() {
            fault.check(&format!("faults[{n}]"))?;
        }
        let Until { injections, activated, detected } = self.until;
        let ends = [injections, activated, detected];
        if ends.iter().all(Option::is_none) {
            return wrong("until", "never: give injections, activated or detected");
        }
        if ends.contains(&Some(0)) {
            return wrong("until", "0 is over before it begins: give at least 1");
        }
        let ranges = [
            ("period_us", self.period_us, 100..=10_000),
            ("observe_ms", self.observe_ms, 50..=10_000),
            ("reach_ms", self.reach_ms, 5..=10_000),
        ];
        for (at, value, range) in ranges {
            if !range.contains(&value) {
                let (low, high) = range.into_inner();
                return wrong(at, &format!("{value} is out of range: use {low} to {high}"));
            }
        }
        Ok(())
    }
}

impl FaultSpec {
    fn check(&self, at: &str) -> Result<(), Mistake> {
        let wrong =
            |key: &str, what: &str| Err(Mistake { at: format!("{at}.{key}"), what: what.into() });
        if !(1..=1000).contains(&self.weight()) {
            return wrong("weight", "is out of range: use 1 to 1000");
        }
        if let Some(Functions::Named(names)) = self.functions()
            && names.is_empty()
        {
            return wrong("functions", "is empty: name one, or say \"profile\" or \"text\"");
        }
        match self {
            Self::Data { segments, .. } => check_segments(at, segments, &data_segments()),
            Self::Device { segments, .. } => check_segments(at, segments, &device_segments()),
            Self::Mutation { mutations, .. } if mutations.is_empty() => {
                wrong("mutations", "is empty: name one, or leave it out for all")
            }
            Self::Mutation { .. } | Self::Code { .. } | Self::Register { .. } => Ok(()),
        }
    }
}

fn check_segments(
    at: &str,
    segments: &[FaultSegment],
    possible: &[FaultSegment],
) -> Result<(), Mistake> {
    let sound = !segments.is_empty() && segments.iter().all(|segment| possible.contains(segment));
    if sound {
        return Ok(());
    }
    let names: Vec<String> = possible.iter().map(|s| format!("{s:?}").to_lowercase()).collect();
    let what = format!("name some of {}", names.join(", "));
    Err(Mistake { at: format!("{at}.segments"), what })
}
