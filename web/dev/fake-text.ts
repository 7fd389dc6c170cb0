/** What the scripted engine answers: every kind of Markdown. */
export const sample = `Photosynthesis is how plants **make their own food**. They need three things:
*light*, water and carbon dioxide.

## The recipe

1. Roots drink water from the soil.
2. Leaves take in carbon dioxide through tiny openings called \`stomata\`.
3. A green pigment, chlorophyll, catches the light.
   - Red and blue light are used.
   - Green light is sent back, which is why leaves look green.

> A leaf is a kitchen that cooks with sunshine.

| What goes in | What comes out | Where |
|---|:---:|---:|
| Water | Oxygen | Chloroplast |
| Carbon dioxide | Sugar | Chloroplast |

As a small program:

\`\`\`python
def photosynthesis(water: int, carbon_dioxide: int, light: bool = True) -> dict[str, int]:
    """Six of each make one sugar."""
    if not light:
        return {"sugar": 0, "oxygen": 0}
    sugar = min(water, carbon_dioxide) // 6
    return {"sugar": sugar, "oxygen": sugar * 6}  # what is left goes back into the air
\`\`\`

- [x] Light
- [ ] Darkness

Read more at [Wikipedia](https://en.wikipedia.org/wiki/Photosynthesis).
![A leaf](https://example.com/leaf.png) <img src=x onerror=alert(1)>
植物在叶绿体中把光能变成化学能。

---

That is all: *light in, life out*.`;
