//! `floodgate rehearse`: the verdict and the exit code follow from stated objectives, and nothing
//! but the result is written where nobody watches.

use crate::harness::BINARY;
use serde_json::Value;
use std::process::{Command, Output};

fn rehearse(args: &[&str]) -> Output {
    let fixed = ["rehearse", "--shoppers", "30", "--stock", "30", "--rate", "100", "--early", "10"];
    let fixed = [&fixed[..], &["--no-shows", "0", "--hold-seconds", "5", "--processes", "1"]].concat();
    Command::new(BINARY).args(fixed).args(args).output().unwrap()
}

#[test]
fn the_verdict_names_each_objective_with_what_was_seen() {
    let output = rehearse(&["--p99-max-ms", "30000"]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.ends_with("\nGO\n"), "{said}");
    for line in [
        "wanted at most 30000 ms\n",
        "objective:  met: requests that failed: 0.000 % (0 of ",
        "objective:  met: answers lost: 0; wanted 0\n",
        "objective:  met: differences between what was told and the log: 0; wanted 0\n",
        "objective:  met: INV-1: proven; wanted proven\n",
        "objective:  met: INV-7: proven; wanted proven\n",
    ] {
        assert!(said.contains(line), "{line:?} in {said}");
    }
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "no progress where nobody watches");

    let output = rehearse(&["--p99-max-ms", "0", "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let outcome: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&outcome["go"], &outcome["problems"]), (&false.into(), &Value::Array(vec![])), "{outcome}");
    let objectives = outcome["objectives"].as_array().unwrap();
    let missed: Vec<&Value> = objectives.iter().filter(|o| o["is_met"] == false).collect();
    assert_eq!(missed.len(), 1, "{outcome}");
    assert_eq!(
        (&missed[0]["what"], &missed[0]["wanted"]),
        (&"p99 of answers".into(), &"at most 0 ms".into())
    );
    assert!(missed[0]["seen"].as_str().unwrap().ends_with(" ms"), "{outcome}");
}
