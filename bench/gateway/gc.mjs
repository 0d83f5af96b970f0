// Lets the soak see what is held, and not what has not been collected yet.
process.on("SIGUSR2", () => {
  for (let i = 0; i < 3; i++) globalThis.gc?.()
})
