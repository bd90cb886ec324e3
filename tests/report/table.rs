use patarm::report::{Table, Unit};

#[test]
fn columns_are_as_wide_as_their_widest_cell_whatever_the_alphabet() {
    let mut table = Table::new(["task", "before", "after"]);
    table.row(["overall", "50.0 %", "81.2 %"]);
    table.row(["Übung", "–"]);
    let expected = "task     before   after\n\
                    -----------------------\n\
                    overall  50.0 %  81.2 %\n\
                    Übung         –\n";
    assert_eq!(table.to_string(), expected);
}

#[test]
fn numbers_carry_their_unit_and_no_more_figures_than_help() {
    let shown = [
        (Unit::Share, 0.8125, "81.2 %"),
        (Unit::Points, -0.031, "-3.1 points"),
        (Unit::Seconds, 581.4, "9 min 41 s"),
        (Unit::Seconds, 4.256, "4.26 s"),
        (Unit::Seconds, 7500.0, "2 h 5 min"),
        (Unit::Count, 1_234_567.0, "1,234,567"),
        (Unit::TokensPerSecond, 11_482.3, "11,482 tokens/s"),
        (Unit::Number, 0.000_123, "1.23e-4"),
        (Unit::Number, f64::NAN, "NaN"),
    ];
    for (unit, value, expected) in shown {
        assert_eq!(unit.show(value), expected);
    }
}
