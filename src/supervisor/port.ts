/** The port of the endpoint of this machine's models unless another is asked for. */
export const defaultPort = 39_281
