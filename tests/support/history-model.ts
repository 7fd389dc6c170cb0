/** What the history should hold: the simplest description of conversations in several tabs. */

/** A message, and what followed it. */
export interface Node {
  text: string;
  parent: Node | null;
  /** In order of their making. */
  children: Node[];
}

export interface Talk {
  title: string;
  named: boolean;
  /** First questions. */
  roots: Node[];
  /** The message it was last seen at. */
  leaf: Node | null;
}

/** What a tab shows. */
export interface View {
  talk: Talk | null;
  leaf: Node | null;
}

export class Model {
  talks: Talk[] = [];
  views: View[];

  constructor(tabs: number) {
    this.views = Array.from({ length: tabs }, () => ({ talk: null, leaf: null }));
  }

  view(tab: number): View {
    const view = this.views[tab];
    if (view === undefined) throw new Error(`there is no tab ${tab}`);
    return view;
  }

  /** Questions and answers that a tab shows, in order. */
  path(tab: number): Node[] {
    return pathTo(this.view(tab).leaf);
  }

  ask(tab: number, text: string): void {
    const view = this.view(tab);
    view.talk ??= this.#begin(text);
    this.#answer(tab, this.#add(view.talk, view.leaf, text));
  }

  /** Asks another version of a question. */
  edit(tab: number, question: Node, text: string): void {
    const { talk } = this.view(tab);
    if (talk === null) throw new Error("nothing is shown");
    if (question.parent === null && !talk.named) talk.title = text;
    this.#answer(tab, this.#add(talk, question.parent, text));
  }

  /** Answers the last question that is shown again. */
  regenerate(tab: number): void {
    const question = this.path(tab).at(-2);
    if (question === undefined) throw new Error("nothing is shown");
    this.#answer(tab, question);
  }

  /** Shows another version of a message. */
  choose(tab: number, version: Node): void {
    const view = this.view(tab);
    view.leaf = newest(version);
    if (view.talk) view.talk.leaf = view.leaf;
  }

  open(tab: number, talk: Talk): void {
    if (this.view(tab).talk !== talk) Object.assign(this.view(tab), { talk, leaf: talk.leaf });
  }

  reload(tab: number): void {
    const view = this.view(tab);
    view.leaf = view.talk?.leaf ?? null;
  }

  newChat(tab: number): void {
    Object.assign(this.view(tab), { talk: null, leaf: null });
  }

  rename(talk: Talk, title: string): void {
    Object.assign(talk, { title, named: true });
  }

  delete(talk: Talk): void {
    this.talks = this.talks.filter((other) => other !== talk);
    for (const view of this.views) if (view.talk === talk) Object.assign(view, { talk: null, leaf: null });
  }

  /** As one text per conversation, in no particular order. */
  texts(): string[] {
    return this.talks.map(({ title, roots }) => `${title}: ${roots.map(textOf).sort().join(" ")}`).sort();
  }

  #begin(title: string): Talk {
    const talk: Talk = { title, named: false, roots: [], leaf: null };
    this.talks.push(talk);
    return talk;
  }

  #add(talk: Talk, parent: Node | null, text: string): Node {
    const node: Node = { text, parent, children: [] };
    (parent?.children ?? talk.roots).push(node);
    return node;
  }

  /** Other tabs follow a branch that grows behind the one that they show. */
  #answer(tab: number, question: Node): void {
    const view = this.view(tab);
    if (view.talk === null) throw new Error("nothing is shown");
    const answer = this.#add(view.talk, question, `Answer to ${question.text}`);
    view.talk.leaf = answer;
    for (const other of this.views)
      if (other === view || (other.talk === view.talk && isBefore(other.leaf, answer))) other.leaf = answer;
  }
}

function pathTo(leaf: Node | null): Node[] {
  return leaf === null ? [] : [...pathTo(leaf.parent), leaf];
}

function isBefore(node: Node | null, leaf: Node): boolean {
  return node === null || pathTo(leaf).includes(node);
}

function newest(node: Node): Node {
  const last = node.children.at(-1);
  return last === undefined ? node : newest(last);
}

/** `text(what followed)`, versions sorted. */
export function textOf({ text, children }: { text: string; children: Node[] }): string {
  return children.length === 0 ? text : `${text}(${children.map(textOf).sort().join(" ")})`;
}

/** Numbers that look random and are the same every time: mulberry32. */
export function randomFrom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}
