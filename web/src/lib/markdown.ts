import DOMPurify from "dompurify";
import { Marked, Tokenizer, type Token, type TokenizerObject, type TokensList } from "marked";
import type { Dictionary } from "../i18n";

/**
 * A model's answer is untrusted text. Raw HTML is shown as text, images become links (fetching one would tell
 * its host what is being read), links must be web or mail addresses, and the outcome is sanitised once more.
 */

function escape(text: string): string {
  return text
    .replaceAll("&", "&amp;")
    .replaceAll("<", "&lt;")
    .replaceAll(">", "&gt;")
    .replaceAll('"', "&quot;");
}

function anchor(href: string, inner: string): string {
  return /^(https?:|mailto:)/i.test(href) ? `<a href="${escape(href)}">${inner}</a>` : inner;
}

const purifier = DOMPurify(window);
purifier.addHook("afterSanitizeAttributes", (node) => {
  if (node.tagName !== "A") return;
  node.setAttribute("target", "_blank");
  node.setAttribute("rel", "noopener noreferrer");
});

const allowed = {
  ALLOWED_TAGS: (
    "a b blockquote br button code del div em h1 h2 h3 h4 h5 h6 hr i li ol p pre s span strong sub sup " +
    "table tbody td th thead tr ul"
  ).split(" "),
  ALLOWED_ATTR: ["href", "class", "align", "start", "type", "tabindex", "role", "aria-label"],
  ALLOW_DATA_ATTR: false,
};

/** Deepest nesting of quotes, lists and emphasis. Anything deeper is shown as it was typed. */
const DEEPEST = 20;

/** Tokenizers that bound the nesting: the parser, the sanitiser and the browser's layout all recurse. */
function bounded(): Pick<TokenizerObject, "blockquote" | "list" | "emStrong"> {
  let depth = 0;
  // Without a token, the text becomes part of a paragraph.
  const nested = <T>(read: () => T | undefined): T | undefined => {
    if (depth >= DEEPEST) return undefined;
    depth += 1;
    try {
      return read();
    } finally {
      depth -= 1;
    }
  };
  return {
    blockquote(src) {
      return nested(() => Tokenizer.prototype.blockquote.call(this, src));
    },
    list(src) {
      return nested(() => Tokenizer.prototype.list.call(this, src));
    },
    emStrong(...given) {
      return nested(() => Tokenizer.prototype.emStrong.apply(this, given));
    },
  };
}

function renderer(t: Dictionary): Marked {
  return new Marked({
    tokenizer: bounded(),
    gfm: true,
    breaks: false,
    renderer: {
      html: ({ text, block }) => (block ? `<p>${escape(text.trim())}</p>` : escape(text)),
      image: ({ href, text }) => anchor(href, escape(t.imageLink(text || href))),
      link({ href, tokens }) {
        return anchor(href, this.parser.parseInline(tokens));
      },
      checkbox: ({ checked }) => `<span class="task">${checked ? "☑" : "☐"}</span> `,
      code({ text, lang }) {
        const name = escape((lang ?? "").split(/\s/, 1)[0] ?? "");
        return (
          `<div class="code"><div class="code-bar"><span class="code-language">${name}</span>` +
          `<button type="button" class="code-copy" aria-label="${escape(t.copyCode)}">` +
          `${escape(t.copy)}</button></div>` +
          `<pre tabindex="0"><code>${escape(text)}\n</code></pre></div>`
        );
      },
      table(token) {
        const row = (cells: typeof token.header, tag: "th" | "td"): string =>
          `<tr>${cells
            .map((cell) => {
              const align = cell.align === null ? "" : ` align="${cell.align}"`;
              return `<${tag}${align}>${this.parser.parseInline(cell.tokens)}</${tag}>`;
            })
            .join("")}</tr>`;
        const body = token.rows.map((cells) => row(cells, "td")).join("");
        const head = row(token.header, "th");
        return (
          `<div class="table" tabindex="0"><table><thead>${head}</thead>` +
          `<tbody>${body}</tbody></table></div>`
        );
      },
    },
  });
}

const renderers = new WeakMap<Dictionary, Marked>();

function rendererFor(t: Dictionary): Marked {
  let found = renderers.get(t);
  if (found === undefined) {
    found = renderer(t);
    renderers.set(t, found);
  }
  return found;
}

/** One top-level piece of a text: a paragraph, a list, a code block. `raw` is its source. */
export interface Block {
  raw: string;
  /** The dictionary for its buttons. */
  language: Dictionary;
  html: () => string;
}

/** Splits a text into blocks, so that a streamed answer renders its last block only. */
export function blocks(text: string, t: Dictionary): Block[] {
  const marked = rendererFor(t);
  const tokens: TokensList = marked.lexer(text);
  return tokens
    .filter((token: Token) => token.type !== "space" && token.type !== "def")
    .map((token: Token) => ({
      raw: token.raw,
      language: t,
      html: () => purifier.sanitize(marked.parser([token]), allowed),
    }));
}
