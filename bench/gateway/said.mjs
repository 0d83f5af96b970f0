// What the failing servers say to a question: nothing but the question decides.
const words = ["the", "light", "of", "a", "star", "scatters", "and", "café", "forty-two", "é中文"]

export const tokensOf = (question) => {
  let seed = 7
  for (const character of question) seed = (seed * 31 + character.codePointAt(0)) % 1_000_003
  return Array.from({ length: 30 }, (_, i) => {
    seed = (seed * 48_271 + i) % 2_147_483_647
    return ` ${words[seed % words.length]}${seed % 997}`
  })
}
