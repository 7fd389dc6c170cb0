//! Pre-tokenizers: how byte-level BPE vocabularies split text into words. Merges never cross words.

use fancy_regex::{Regex, RegexBuilder};

use super::TextError;

/// How a vocabulary splits text, by its `tokenizer.ggml.pre`.
#[derive(Debug)]
pub(super) struct PreTokenizer {
    /// Applied one after the other, each to the pieces that the previous ones made.
    regexes: Vec<Regex>,
    /// Splits runs of digits into threes from the right, before the regexes.
    digits: Option<Regex>,
    /// How the vocabulary spells words.
    pub(super) alphabet: Alphabet,
    /// Whether a word in the vocabulary is one token even if no merges lead to it.
    pub(super) ignore_merges: bool,
    /// Whether prompts begin with BOS if the file does not say.
    pub(super) add_bos: bool,
}

/// How the tokens of a vocabulary spell text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Alphabet {
    /// In GPT-2's byte alphabet.
    Bytes,
    /// As it is, with ▁ for spaces and tokens for the bytes of other characters.
    Spaces,
    /// As it is, without white space.
    NoSpaces,
}

struct Known {
    names: &'static [&'static str],
    regexes: &'static [&'static str],
    digit_triples: bool,
    alphabet: Alphabet,
    ignore_merges: bool,
    add_bos: bool,
}

const fn known(names: &'static [&'static str], regexes: &'static [&'static str]) -> Known {
    let (digit_triples, ignore_merges, add_bos) = (false, false, false);
    Known { names, regexes, digit_triples, alphabet: Alphabet::Bytes, ignore_merges, add_bos }
}

impl Known {
    const fn ignoring_merges(self) -> Self {
        Self { ignore_merges: true, ..self }
    }

    const fn adding_bos(self) -> Self {
        Self { add_bos: true, ..self }
    }

    const fn in_triples(self) -> Self {
        Self { digit_triples: true, ..self }
    }

    const fn spelled(self, alphabet: Alphabet) -> Self {
        Self { alphabet, ..self }
    }
}

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

/// The pattern of tiktoken's cl100k and its variants, which group digits and marks differently.
macro_rules! cl100k {
    ($letters:literal, $digits:literal, $not_punctuation:literal) => {
        cl100k!(r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|", $letters, $digits, $not_punctuation, r"\s+(?!\S)|\s+")
    };
    ($contraction:literal, $letters:literal, $digits:literal, $not_punctuation:literal, $spaces:literal) => {
        concat!(
            $contraction,
            r"[^\r\n\p{L}\p{N}]?",
            $letters,
            "+|",
            $digits,
            r"| ?[^\s",
            $not_punctuation,
            r"]+[\r\n]*|\s*[\r\n]+|",
            $spaces
        )
    };
}

const LLAMA3: &str = cl100k!(r"\p{L}", r"\p{N}{1,3}", r"\p{L}\p{N}");
const QWEN2: &str = cl100k!(r"\p{L}", r"\p{N}", r"\p{L}\p{N}");
const QWEN35: &str = cl100k!(r"[\p{L}\p{M}]", r"\p{N}", r"\p{L}\p{M}\p{N}");
const MINICPM5: &str = cl100k!(r"\p{L}", r"\p{N}+", r"\p{L}\p{N}");
const UFAKZEKA: &str = cl100k!("", r"\p{L}", r"\p{N}", r"\p{L}\p{N}", r"\s+(?!\S)|\s+");
const JAIS2: &str = cl100k!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|",
    r"\p{L}",
    r"\p{N}{1,3}",
    r"\p{L}\p{N}",
    r"(?:\s{512}|\s{256}|\s{128}|\s{64}|\s{32}|\s{16}|\s{8}|\s{4}|\s{1,2})(?!\S)|\s"
);
const BAILINGMOE: &str = concat!(
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}",
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+"
);
const SEED_CODER: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}",
    r"| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+"
);
const EXAONE_MOE: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}",
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+"
);

/// The pattern of tiktoken's o200k: a word of capitals ends where lower case begins.
macro_rules! o200k {
    ($not:literal, $contraction:literal, $digits:literal, $ends:literal) => {
        concat!(
            r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}",
            $not,
            r"]*[\p{Ll}\p{Lm}\p{Lo}\p{M}",
            $not,
            "]+",
            $contraction,
            r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}",
            $not,
            r"]+[\p{Ll}\p{Lm}\p{Lo}\p{M}",
            $not,
            "]*",
            $contraction,
            "|",
            $digits,
            r"| ?[^\s\p{L}\p{N}]+[",
            $ends,
            r"]*|\s*[\r\n]+|\s+(?!\S)|\s+"
        )
    };
}

const GPT4O: &str = o200k!("", r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?", r"\p{N}{1,3}", r"\r\n/");
const TEKKEN: &str = o200k!("", "", r"\p{N}", r"\r\n/");
const YOUTU: &str = o200k!("", r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?", r"\p{N}", r"\r\n/");
/// Its words have no Chinese characters.
const KIMI_K2: &str =
    concat!(r"\p{Han}+|", o200k!(r"&&[^\p{Han}]", r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?", r"\p{N}{1,3}", r"\r\n"));

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

/// Words, punctuation with the letters after it, and white space of DeepSeek's third vocabulary.
macro_rules! deepseek_v3 {
    ($newlines:literal) => {
        concat!(
            r##"[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"##,
            r"| ?[\p{P}\p{S}]+",
            $newlines,
            r"|\s+(?!\S)|\s+",
        )
    };
}

const CHINESE_JAPANESE: &str = r"[一-龥぀-ゟ゠-ヿ]+";
const DEEPSEEK_V3: &[&str] = &[r"\p{N}{1,3}", CHINESE_JAPANESE, deepseek_v3!(r"[\r\n]*|\s*[\r\n]+")];
const SPARK: &[&str] = &[r"\p{N}{1,3}", CHINESE_JAPANESE, deepseek_v3!(r"|[\r\n]"), r"\p{N}"];
const AFMOE: &[&str] = &[
    concat!(
        r"[一-鿿㐀-䶿豈-\x{faff}぀-ゟ゠-ヿ･-ﾟ⼀-\x{2fdf}",
        r"เ-\x{0e7f}\x{0e80}-\x{0eff}ក-\x{17ff}က-႟ꩠ-ꩿꧠ-\x{a9ff}가-\x{d7af}ᄀ-ᇿ]+",
    ),
    deepseek_v3!(r"[\r\n]*|\s*[\r\n]+"),
];
const CHAMELEON: &[&str] = &[
    r"<sentinel:[0-9]+>",
    r"(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z",
    r"([\t\n]|    |  )",
    r"\p{N}",
    r"[\p{P}!-/:-@\[-`{-~]",
    GPT2,
];
const BLOOM: &str = r" ?[^(\s|.,!?…。，、।۔،)]+";
const LINES: &str = r"[^\n]+|[\n]+";

const KNOWN: &[Known] = &[
    known(
        &[
            "gpt-2",
            "phi-2",
            "mpt",
            "olmo",
            "jais",
            "gigachat",
            "trillion",
            "modern-bert",
            "jina-es",
            "jina-de",
            "jina-v1-en",
            "jina-v2-es",
            "jina-v2-de",
            "jina-v2-code",
            "roberta-bpe",
            "a.x-4.0",
            "mellum",
            "granite-docling",
            "exaone4",
        ],
        &[GPT2],
    ),
    known(
        &["smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b", "mellum2"],
        &[r"\p{N}", GPT2],
    ),
    known(
        &[
            "llama-bpe",
            "llama3",
            "llama-v3",
            "falcon3",
            "falcon-h1",
            "pixtral",
            "lfm2",
            "midm-2.0",
            "jina-v5-nano",
        ],
        &[LLAMA3],
    )
    .ignoring_merges()
    .adding_bos(),
    known(&["dbrx", "smaug-bpe", "chatglm-bpe"], &[LLAMA3]),
    known(&["glm4", "glm5"], &[LLAMA3]).ignoring_merges(),
    known(&["jais-2"], &[JAIS2]),
    known(
        &[
            "qwen2",
            "deepseek-r1-qwen",
            "stablelm2",
            "hunyuan",
            "megrez",
            "kormo",
            "f2llmv2",
            "solar-open",
            "grok-2",
        ],
        &[QWEN2],
    ),
    known(&["qwen35"], &[QWEN35]),
    known(&["laguna"], &[LINES, QWEN2]),
    known(&["minicpm5"], &[r"\p{N}{1,3}", MINICPM5]).ignoring_merges(),
    known(&["ufakzeka"], &[UFAKZEKA]),
    known(&["bailingmoe", "bailingmoe2", "llada-moe"], &[BAILINGMOE]),
    known(&["seed-coder"], &[SEED_CODER]),
    known(&["exaone-moe"], &[EXAONE_MOE]),
    known(&["gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"], &[GPT4O]),
    known(&["granite-embed-multi-97m"], &[GPT4O]).ignoring_merges(),
    known(&["tiny_aya", "cohere2moe"], &[GPT4O]).in_triples(),
    known(&["tekken"], &[TEKKEN]).ignoring_merges().adding_bos(),
    known(&["youtu"], &[r"[가-힣ㄱ-ㆎ]+|[！…“”‘’—：；，、-〿︰-﹏]+|[ㄅ-ㄯ]+|[一-龥぀-ゟ゠-ヿ]+", YOUTU])
        .ignoring_merges(),
    known(&["kimi-k2"], &[KIMI_K2]),
    known(&["deepseek-llm"], DEEPSEEK_LLM),
    known(&["deepseek-coder"], DEEPSEEK_CODER),
    known(&["deepseek-v3", "hunyuan-dense", "joyai-llm", "hy_v4"], DEEPSEEK_V3),
    known(&["spark2_5"], SPARK),
    known(&["afmoe"], AFMOE).in_triples(),
    known(&["superbpe"], &[]).in_triples(),
    known(&["chameleon"], CHAMELEON).adding_bos(),
    known(&["poro-chat", "bloom", "gpt3-finnish"], &[BLOOM]),
    known(&["viking"], &[BLOOM, r"\p{N}"]),
    known(&["falcon"], &[r"[\p{P}\$\+<=>\^~\|`]+", GPT2, r"[0-9][0-9][0-9]"]),
    known(&["default"], &[r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", r"[0-9][0-9][0-9]"]),
    known(&["gemma4", "granite-embed-multi-311m"], &[LINES]).spelled(Alphabet::Spaces).adding_bos(),
    known(&["sarvam-moe"], &[LINES]).spelled(Alphabet::Spaces),
    known(&["whitespace"], &[r"\S+"]).spelled(Alphabet::NoSpaces),
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
        let compile = |regex: &str| {
            let regex = RegexBuilder::new(regex).backtrack_limit(BACKTRACK_LIMIT).build();
            regex.map_err(|e| TextError::Vocabulary(e.to_string()))
        };
        Ok(Self {
            regexes: known.regexes.iter().map(|regex| compile(regex)).collect::<Result<_, _>>()?,
            digits: if known.digit_triples { Some(compile(r"\p{N}+")?) } else { None },
            alphabet: known.alphabet,
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
        let Some(digits) = &self.digits else { return split(&self.regexes, text, word) };
        let mut end = 0;
        for found in digits.find_iter(text) {
            let found = found.map_err(|e| TextError::Encode(e.to_string()))?;
            split(&self.regexes, text.get(end..found.start()).unwrap_or_default(), word)?;
            let mut rest = found.as_str();
            let mut n = rest.chars().count();
            while n > 0 {
                let group = if n % 3 == 0 { 3 } else { n % 3 };
                let len = rest.chars().take(group).map(char::len_utf8).sum();
                let (first, others) = rest.split_at(len);
                split(&self.regexes, first, word)?;
                (rest, n) = (others, n - group);
            }
            end = found.end();
        }
        split(&self.regexes, text.get(end..).unwrap_or_default(), word)
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
    fn digits_are_grouped_from_the_right() {
        assert_eq!(words("superbpe", "a1234567b12"), ["a", "1", "234", "567", "b", "12"]);
        assert_eq!(words("tiny_aya", "x 1234,5"), ["x", " ", "1", "234", ",", "5"]);
    }

    #[test]
    fn capitals_end_words_of_lower_case() {
        for name in ["gpt-4o", "llama4", "tekken", "kimi-k2", "youtu", "tiny_aya"] {
            assert_eq!(words(name, "camelCase ПриветМир"), ["camel", "Case", " Привет", "Мир"], "{name}");
            assert_eq!(words(name, "re\u{301}sume\u{301}"), ["re\u{301}sume\u{301}"], "{name}");
        }
        assert_eq!(words("kimi-k2", "ab漢字c"), ["ab", "漢字", "c"]);
        assert_eq!(words("deepseek-coder", "tabs \u{3000}wide"), ["tabs", " ", "\u{3000}", "wide"]);
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
