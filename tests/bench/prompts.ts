/** The questions that all contenders answer. */

/** A message of a conversation, in the form that all contenders accept. */
export interface Message {
  role: "system" | "user";
  content: string;
}

/** SmolLM2's default system prompt and a question with a long answer: 39 tokens with the chat template. */
export const QUESTION: Message[] = [
  { role: "system", content: "You are a helpful AI assistant named SmolLM, trained by Hugging Face" },
  { role: "user", content: "Tell me a story about Paris, France." },
];

/** About 346 tokens. It begins differently from the question, so that nothing is found in a cache. */
export const LONG: Message[] = [
  { role: "system", content: "Read the text and answer in one short sentence." },
  {
    role: "user",
    content: `The lighthouse on the northern cape was built in the summer of 1874, when the fishing \
fleet of the bay had grown to more
than two hundred boats. Before that, the crews found their way home by the fires that their families lit \
on the hill above the
harbour, and in fog they did not find it at all. The tower is made of granite blocks which were cut on \
the mainland, numbered, and
carried across the sound on flat barges. It took forty men three summers to raise it, because the work \
had to stop whenever the wind
turned to the west. The first keeper was a widow who had lost two brothers to the reef. She climbed the \
one hundred and sixty-two
steps every evening for thirty-one years, trimmed the wick, wound the clockwork that turned the lens, \
and wrote a line about the
weather into a green book. Those books are now kept in the town museum, next to the old lens. Scholars \
of the climate read them with
care, since nobody else on that coast wrote down the wind, the cloud and the height of the sea twice a \
day for so long. In 1952 the
lamp became electric, and in 1987 the last keeper handed his keys to an engineer who now looks after \
nine lights from an office in
the city. Visitors may climb the tower between May and September. On clear days they see the islands in the
north. Who was the first keeper of the lighthouse, and why are her books of use today?`,
  },
];
