//! Pre-tokenizers: how byte-level BPE vocabularies split text into words. Merges never cross words.

use fancy_regex::{Regex, RegexBuilder};

use super::TextError;

/// How a vocabulary splits text, by its `tokenizer.ggml.pre`.
#[derive(Debug)]
pub(super) struct PreTokenizer {
    /// Applied one after the other, each to the pieces that the previous ones made.
    regexes: Vec<Regex>,
    /// Whether a word in the vocabulary is one token even if no merges lead to it.
    pub(super) ignore_merges: bool,
    /// Whether prompts begin with BOS if the file does not say.
    pub(super) add_bos: bool,
}

struct Known {
    names: &'static [&'static str],
    regexes: &'static [&'static str],
    ignore_merges: bool,
    add_bos: bool,
}

const fn known(names: &'static [&'static str], regexes: &'static [&'static str]) -> Known {
    Known { names, regexes, ignore_merges: false, add_bos: false }
}

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

/// The pattern of tiktoken's cl100k and its variants, which group digits and marks differently.
macro_rules! cl100k {
    ($letters:literal, $digits:literal, $not_punctuation:literal) => {
        concat!(
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?",
            $letters,
            "+|",
            $digits,
            r"| ?[^\s",
            $not_punctuation,
            r"]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
        )
    };
}

const LLAMA3: &str = cl100k!(r"\p{L}", r"\p{N}{1,3}", r"\p{L}\p{N}");
const QWEN2: &str = cl100k!(r"\p{L}", r"\p{N}", r"\p{L}\p{N}");
const QWEN35: &str = cl100k!(r"[\p{L}\p{M}]", r"\p{N}", r"\p{L}\p{M}\p{N}");

/// The pattern of tiktoken's o200k: a word of capitals ends where lower case begins.
macro_rules! o200k {
    ($contraction:literal, $digits:literal) => {
        concat!(
            r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+",
            $contraction,
            r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*",
            $contraction,
            "|",
            $digits,
            r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
        )
    };
}

const GPT4O: &str = o200k!(r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?", r"\p{N}{1,3}");
const TEKKEN: &str = o200k!("", r"\p{N}");

const DEEPSEEK_LLM: &[&str] = &[
    r"[\r\n]",
    concat!(
        r"\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-Ֆ",
        r"Ⴀ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-\x{1f7d}ᾀ-ᾴᾶ-ᾼ\x{1fbe}ῂ-ῄῆ-ῌ",
        r"ῐ-\x{1fd3}ῖ-\x{1fdb}ῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤ\x{2126}ℨ\x{212a}-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻ",
        r"Ȿ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+",
    ),
    r"\s?[!-/:-~！-／：-～‘-‟　-。]+",
    r"\s+$",
    r"[一-龥ࠀ-一가-퟿]+",
    r"\p{N}+",
];

const DEEPSEEK_CODER: &[&str] = &[r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", r"[一-龥ࠀ-一가-퟿]+", r"\p{N}"];

const DEEPSEEK_V3: &[&str] = &[
    r"\p{N}{1,3}",
    r"[一-龥぀-ゟ゠-ヿ]+",
    concat!(
        r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"##,
        r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    ),
];

const KNOWN: &[Known] = &[
    known(&["gpt-2", "phi-2", "mpt", "olmo", "jais", "gigachat", "trillion", "modern-bert"], &[GPT2]),
    known(
        &["smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"],
        &[r"\p{N}", GPT2],
    ),
    Known {
        names: &["llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "lfm2"],
        regexes: &[LLAMA3],
        ignore_merges: true,
        add_bos: true,
    },
    known(&["dbrx", "smaug-bpe", "chatglm-bpe"], &[LLAMA3]),
    Known { names: &["glm4"], regexes: &[LLAMA3], ignore_merges: true, add_bos: false },
    known(&["qwen2", "deepseek-r1-qwen", "stablelm2", "hunyuan", "megrez"], &[QWEN2]),
    known(&["qwen35"], &[QWEN35]),
    known(&["gpt-4o", "llama4"], &[GPT4O]),
    Known { names: &["tekken"], regexes: &[TEKKEN], ignore_merges: true, add_bos: true },
    known(&["deepseek-llm"], DEEPSEEK_LLM),
    known(&["deepseek-coder"], DEEPSEEK_CODER),
    known(&["deepseek-v3", "hunyuan-dense"], DEEPSEEK_V3),
    known(&["falcon"], &[r"[\p{P}\$\+<=>\^~\|`]+", GPT2, r"[0-9][0-9][0-9]"]),
    known(&["default"], &[r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", r"[0-9][0-9][0-9]"]),
];

/// Backtracking steps of one match. Half a million spaces in a row overflow the engine's stack before that.
const BACKTRACK_LIMIT: usize = 10_000_000;

impl PreTokenizer {
    /// The pre-tokenizer with this name in files.
    pub(super) fn by_name(name: &str) -> Result<Self, TextError> {
        let known = KNOWN.iter().find(|known| known.names.contains(&name)).ok_or_else(|| {
            let names: Vec<&str> = KNOWN.iter().flat_map(|known| known.names).copied().collect();
            let names = names.join(", ");
            TextError::Unsupported(format!("its pre-tokenizer is {name:?}; supported are {names}"))
        })?;
        let compile = |regex: &&str| RegexBuilder::new(regex).backtrack_limit(BACKTRACK_LIMIT).build();
        let regexes = known.regexes.iter().map(compile).collect::<Result<_, _>>();
        Ok(Self {
            regexes: regexes.map_err(|e: fancy_regex::Error| TextError::Vocabulary(e.to_string()))?,
            ignore_merges: known.ignore_merges,
            add_bos: known.add_bos,
        })
    }

    /// Calls `word` with each word of `text`, in order.
    pub(super) fn split<'t>(
        &self,
        text: &'t str,
        word: &mut impl FnMut(&'t str) -> Result<(), TextError>,
    ) -> Result<(), TextError> {
        split(&self.regexes, text, word)
    }
}

/// Splits text into the first regex's matches and the gaps between them, and each of these by the other
/// regexes.
fn split<'t>(
    regexes: &[Regex],
    text: &'t str,
    word: &mut impl FnMut(&'t str) -> Result<(), TextError>,
) -> Result<(), TextError> {
    if text.is_empty() {
        return Ok(());
    }
    let Some((regex, rest)) = regexes.split_first() else {
        return word(text);
    };
    let mut end = 0;
    for found in regex.find_iter(text) {
        let found = found.map_err(|e| TextError::Encode(e.to_string()))?;
        split(rest, text.get(end..found.start()).unwrap_or_default(), word)?;
        split(rest, found.as_str(), word)?;
        end = found.end();
    }
    split(rest, text.get(end..).unwrap_or_default(), word)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn words(pre: &str, text: &str) -> Vec<String> {
        let mut words = Vec::new();
        let mut push = |word: &str| {
            words.push(word.to_owned());
            Ok(())
        };
        PreTokenizer::by_name(pre).unwrap().split(text, &mut push).unwrap();
        words
    }

    #[test]
    fn all_patterns_compile_and_keep_all_text() {
        let text = "I'LL pay 12345 €, naïve  Größe\r\n\n\t x=[1];  日本語🙂 ٣٤٥   ";
        for name in KNOWN.iter().flat_map(|known| known.names) {
            assert_eq!(words(name, text).concat(), text, "{name}");
        }
    }

    #[test]
    fn digits_are_grouped_by_pre_tokenizer() {
        assert_eq!(words("gpt-2", "a 1234"), ["a", " 1234"]);
        assert_eq!(words("smollm", "a 12"), ["a", " ", "1", "2"]);
        assert_eq!(words("llama-bpe", "a 1234"), ["a", " ", "123", "4"]);
        assert_eq!(words("qwen2", "a 12"), ["a", " ", "1", "2"]);
    }

    #[test]
    fn an_unknown_name_lists_the_supported_ones() {
        let message = PreTokenizer::by_name("klingon").unwrap_err().to_string();
        assert!(message.contains("klingon") && message.contains("llama-bpe"));
    }

    #[test]
    fn long_runs_of_spaces_are_two_words() {
        let text = " ".repeat(1 << 18) + "x";
        assert_eq!(words("gpt-2", &text).len(), 2);
        assert_eq!(words("llama-bpe", &text).len(), 2);
        // Past the regex engine's limit this is an error, not a different split.
        let text = " ".repeat(1 << 20) + "x";
        let result = PreTokenizer::by_name("gpt-2").and_then(|p| p.split(&text, &mut |_| Ok(())));
        assert!(matches!(result, Err(TextError::Encode(_))));
    }
}
