//! What needs KVM, and what of that not even the nested machine can run.

/// Unit tests of a package of which some run micro-VMs.
#[derive(Clone, Copy, Debug)]
pub struct Package {
    /// Its name.
    pub name: &'static str,
    /// Which of its targets have tests that a machine without KVM can run, as cargo is told.
    pub targets: &'static [&'static str],
    /// Modules of the tests that run micro-VMs.
    pub need_kvm: &'static [&'static str],
    /// Whether its library's tests run in the nested machine.
    pub nested: bool,
}

/// All packages with such tests. A filter of a test's name holds for one package only: others have
/// modules of the same names whose tests run anywhere.
pub const PACKAGES: [Package; 4] = [
    Package {
        name: "microvm",
        targets: &[],
        need_kvm: &["kvm::tests::", "domain::tests::"],
        nested: true,
    },
    Package { name: "supervisor", targets: &[], need_kvm: &["system_tests::"], nested: true },
    Package { name: "lab", targets: &[], need_kvm: &["app::tests::"], nested: true },
    Package {
        name: "warmspare-tests",
        // Its test programs need KVM as a whole, and run in the nested machine.
        targets: &["--lib", "--bins"],
        need_kvm: &["realguest::tests::", "bench::peers::tests::"],
        nested: false,
    },
];

/// Test programs that do not run in the nested machine, and why.
pub const PROGRAMS: [(&str, &str); 3] = [
    ("campaign", "its programs judge by what real processors can; the step `campaign` is for this"),
    ("dashboard", "there is no browser in the machine"),
    ("examine", "there is no gdb in the machine"),
];

/// Tests of the others that cannot hold there, by a part of their names, and why.
pub const TESTS: [(&str, &str); 3] = [
    (
        "a_paused_spare_uses_no_cpu",
        "an emulated processor charges a sleeping thread for what the machine under it did",
    ),
    ("gdb", "there is no gdb in the machine"),
    ("beyond_loopback_the_page_takes_the_token", "there is no browser in the machine"),
];

impl Package {
    /// Name of the library's test program in the nested machine.
    pub fn program(&self) -> String {
        format!("units-{}", self.name)
    }

    /// Which package a test program in the nested machine is of, if it has unit tests.
    pub fn of_program(program: &str) -> Option<&'static Self> {
        PACKAGES.iter().find(|package| package.nested && package.program() == program)
    }
}

/// Everything that is not run without `/dev/kvm`, one line each, beside parts of the test command.
pub fn lines() -> Vec<String> {
    let modules = PACKAGES.iter().filter(|package| !package.nested);
    let modules =
        modules.flat_map(|package| package.need_kvm.iter().map(|name| (package.name, name)));
    let modules =
        modules.map(|(package, name)| format!("unit tests {name} of {package}: KVM and root"));
    let programs = PROGRAMS.iter().map(|(name, why)| format!("test program {name}: {why}"));
    let tests =
        TESTS.iter().map(|(name, why)| format!("tests with `{name}` in their names: {why}"));
    modules.chain(programs).chain(tests).collect()
}
