//! Help as a terminal of 80 columns shows it.

/// Lines are broken before this column.
const WIDTH: usize = 80;
/// Words that begin further right than this leave no room beside a flag's name: they go on below it.
const RIGHTMOST: usize = 48;

/// Breaks long lines at their words; what goes on does so below where the words of the line begin. Usage and examples are
/// typed as they stand.
pub fn folded(help: &str) -> String {
    let mut out = String::new();
    let mut verbatim = false;
    for line in help.lines() {
        verbatim |= line.starts_with("Example");
        if verbatim || line.starts_with("Usage:") || line.chars().count() <= WIDTH {
            out += line;
        } else {
            fold(&mut out, line);
        }
        out.push('\n');
    }
    out
}

fn fold(out: &mut String, line: &str) {
    // A flag, its value and the gap before its help; a paragraph has its margin alone.
    let column = line.rfind("  ").map_or(0, |gap| gap + 2);
    let (head, words) = line.split_at(column);
    let below = if head.chars().count() <= RIGHTMOST { head.chars().count() } else { 10 };
    out.push_str(head);
    let mut at = head.chars().count();
    let mut first = true;
    for word in words.split(' ') {
        let length = word.chars().count();
        if !first && at + 1 + length > WIDTH {
            out.push('\n');
            out.push_str(&" ".repeat(below));
            at = below;
        } else if !first {
            out.push(' ');
            at += 1;
        }
        out.push_str(word);
        at += length;
        first = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_go_on_below_their_words() {
        let long = "word ".repeat(20);
        let help = format!(
            "NAME:\n  -b, --bundle <DIR>  {long}[default: .]\n          {long}end\nUsage: {long}\nExamples:\n  {long}\n"
        );
        let said = folded(&help);
        let lines: Vec<&str> = said.lines().collect();
        let count = |line: &str| line.matches("word").count();
        assert_eq!((lines[1].len(), count(lines[1]), count(lines[2])), (76, 11, 9));
        assert!(
            lines[2].starts_with(&format!("{}word", " ".repeat(22))) && lines[2].ends_with("[default: .]"),
            "{said}"
        );
        assert!(lines[4].starts_with("          word") && !lines[4].starts_with("           "), "{said}");
        assert_eq!(lines[5..], help.lines().collect::<Vec<_>>()[3..]);
        // Nothing is lost, and what fits is as it was.
        assert!(said.split_whitespace().eq(help.split_whitespace()));
        assert_eq!(folded("a  b\n\n"), "a  b\n\n");
    }

    #[test]
    fn a_word_that_is_too_long_stands_alone() {
        let word = "x".repeat(100);
        assert_eq!(folded(&format!("ab {word} cd")), format!("ab\n{word}\ncd\n"));
    }
}
