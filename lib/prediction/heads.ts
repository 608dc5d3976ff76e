/**
 * What a head of the network predicts: the clean image, the velocity, the noise; or, as its only prediction, the image of one
 * timestep less noise (guided-diffusion's PREVIOUS_X), or F, the output of EDM's network for pixels with a deviation of 0.5,
 * which is about as large at every noise level (math.md, eq. 7b; Karras et al. 2022, arXiv 2206.00364, eq. 7).
 */
export type Head = 'xStart' | 'v' | 'eps' | 'xPrev' | 'F'

/** The heads that a network may have beside one another, in their fixed order: of output channels, of the columns of `perHead`, of names. */
export const HEADS = ['xStart', 'v', 'eps'] as const satisfies readonly Head[]

/** Every head; those beyond `HEADS` stand alone. Mirrors native/prediction/head.h. */
export const ALL_HEADS = [...HEADS, 'xPrev', 'F'] as const satisfies readonly Head[]

/** Deviation of the pixels that head F takes for granted, EDM's own, whatever `sigmaData` the space of a loss has. */
export const F_HEAD_SIGMA_DATA = 0.5
