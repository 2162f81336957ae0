use std::collections::HashMap;
use std::fmt;
use std::fmt::Write;

const LIMIT: usize = 3;

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Number(i64),
    Plus,
}

#[derive(Debug)]
struct Error {
    text: String,
    place: usize,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{} at {}", self.text, self.place)
    }
}

trait Evaluate {
    fn evaluate(&self) -> Option<i64>;
}

struct Line<T> {
    tokens: Vec<T>,
}

impl<T> Line<T> {
    fn new() -> Self {
        Line { tokens: Vec::new() }
    }

    fn size(&self) -> usize {
        self.tokens.len()
    }
}

impl Evaluate for Line<Token> {
    fn evaluate(&self) -> Option<i64> {
        let mut total = 0;
        for token in &self.tokens {
            match token {
                Token::Number(value) => {
                    total += value;
                }
                Token::Plus => {}
            }
        }
        if self.size() == 0 {
            return None;
        }
        Some(total)
    }
}

fn parse(text: &str) -> Result<Line<Token>, Error> {
    let mut line = Line::new();
    for (place, word) in text.split(' ').enumerate() {
        let token = if word == "+" {
            Token::Plus
        } else {
            let value = word.parse::<i64>().map_err(|_| Error {
                text: word.to_string(),
                place,
            })?;
            Token::Number(value)
        };
        line.tokens.push(token);
    }
    Ok(line)
}

fn main() {
    let mut seen: HashMap<String, usize> = HashMap::new();
    let mut out = String::new();
    for text in ["1 + 2", "a"].iter().take(LIMIT) {
        let count = seen.entry(text.to_string()).or_insert(0);
        *count += 1;
        match parse(text) {
            Ok(line) => {
                writeln!(out, "{:?} {:?}", line.tokens, line.evaluate()).unwrap();
            }
            Err(error) => println!("{}", error),
        }
    }
    print!("{}", out);
}
