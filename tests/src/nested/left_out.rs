//! Lists the tests that need KVM, and those among them that cannot run in the nested machine
//! either.

/// A package some of whose unit tests run micro-VMs.
#[derive(Clone, Copy, Debug)]
pub struct Package {
    /// Its name.
    pub name: &'static str,
    /// Cargo's options for the targets whose tests a machine without KVM can run.
    pub targets: &'static [&'static str],
    /// Modules with the tests that run micro-VMs.
    pub need_kvm: &'static [&'static str],
    /// True if its library's tests run in the nested machine.
    pub nested: bool,
}

/// All packages with such tests. Each filter of test names is applied to its own package only,
/// since other packages have modules of the same names whose tests run anywhere.
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
        // All of its integration-test programs need KVM; they run in the nested machine.
        targets: &["--lib", "--bins"],
        need_kvm: &["realguest::tests::", "bench::peers::tests::"],
        nested: false,
    },
];

/// Test programs that do not run in the nested machine, and the reason.
pub const PROGRAMS: [(&str, &str); 3] = [
    ("campaign", "its programs judge by what real processors can; the step `campaign` is for this"),
    ("dashboard", "there is no browser in the machine"),
    ("examine", "there is no gdb in the machine"),
];

/// Tests of the other programs that cannot pass there, by a part of their names, and the reason.
pub const TESTS: [(&str, &str); 4] = [
    (
        "a_paused_spare_uses_no_cpu",
        "an emulated processor charges a sleeping thread for what the machine under it did",
    ),
    (
        "what_a_guest_sent_last_is_out",
        "a hang is found after 50 ms there, and a guest's departure waits for 20 ms at most",
    ),
    ("gdb", "there is no gdb in the machine"),
    ("beyond_loopback_the_page_takes_the_token", "there is no browser in the machine"),
];

impl Package {
    /// Name of the library's test program in the nested machine.
    pub fn program(&self) -> String {
        format!("units-{}", self.name)
    }

    /// Returns the package whose unit tests a test program in the nested machine runs, if any.
    pub fn of_program(program: &str) -> Option<&'static Self> {
        PACKAGES.iter().find(|package| package.nested && package.program() == program)
    }
}

/// Lists everything that is not run without `/dev/kvm`, one line each, except whole parts of the
/// test command.
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    /// Adds the lines that begin functions in this folder's files.
    fn functions(folder: &Path, found: &mut Vec<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                functions(&path, found);
                continue;
            }
            let text = fs::read_to_string(&path).unwrap();
            found.extend(text.lines().filter(|line| line.contains("fn ")).map(str::to_owned));
        }
    }

    #[test]
    fn what_is_left_out_exists() {
        let folder = crate::workspace().join("tests/tests");
        for (program, _) in PROGRAMS {
            assert!(folder.join(format!("{program}.rs")).is_file(), "{program}");
        }
        let mut found = Vec::new();
        functions(&folder, &mut found);
        for (name, _) in TESTS {
            assert!(found.iter().any(|line| line.contains(name)), "no test's name has `{name}`");
        }
    }
}
