/* exp, sigmoid, tanh, erf, sine and cosine of vectors. Each level includes its own vector.h before this header.
 *
 * Largest errors found against double, over every 64th float in [-86, 88] (exp), below 20 (tanh) and all (erf), and multiples of 1/64 up to
 * 131,072 (sine, cosine): exp 1.0 ulp, tanh 1.3 ulp, erf 5.5 ulp, sine and cosine 9.3e-8 absolute. NaN stays NaN. */
#ifndef BB_VECTOR_MATH_H
#define BB_VECTOR_MATH_H

/* 0 below -86.6 (the result would be hardly above the smallest normal number), infinity above 88.73; exactly 1 at 0.
 * By 2^n * exp(r) with |r| <= ln(2) / 2, and Cephes' polynomial for exp(r). */
BB_INLINE vec vec_exp(vec x)
{
    const vec clamped = vec_min(vec_set(89.0f), vec_max(vec_set(-87.0f), x));
    const vec n = vec_round(vec_multiply(clamped, vec_set(1.44269504088896341f)));
    vec r = vec_fma(n, vec_set(-0.693359375f), clamped);
    r = vec_fma(n, vec_set(2.12194440e-4f), r);
    vec p = vec_set(1.9875691500e-4f);
    p = vec_fma(p, r, vec_set(1.3981999507e-3f));
    p = vec_fma(p, r, vec_set(8.3334519073e-3f));
    p = vec_fma(p, r, vec_set(4.1665795894e-2f));
    p = vec_fma(p, r, vec_set(1.6666665459e-1f));
    p = vec_fma(p, r, vec_set(5.0000001201e-1f));
    p = vec_add(vec_fma(p, vec_multiply(r, r), r), vec_set(1.0f));
    return vec_select(vec_is_less(x, vec_set(-86.6f)), vec_set(0.0f), vec_scale_by_power(p, n));
}

BB_INLINE vec vec_sigmoid(vec x)
{
    return vec_divide(vec_set(1.0f), vec_add(vec_set(1.0f), vec_exp(vec_subtract(vec_set(0.0f), x))));
}

/* Cephes: an odd polynomial below 0.625, 1 - 2 / (exp(2 |x|) + 1) above. */
BB_INLINE vec vec_tanh(vec x)
{
    const vec size = vec_absolute(x), z = vec_multiply(x, x);
    vec p = vec_set(-5.70498872745e-3f);
    p = vec_fma(p, z, vec_set(2.06390887954e-2f));
    p = vec_fma(p, z, vec_set(-5.37397155531e-2f));
    p = vec_fma(p, z, vec_set(1.33314422036e-1f));
    p = vec_fma(p, z, vec_set(-3.33332819422e-1f));
    const vec small = vec_fma(vec_multiply(p, z), x, x);
    const vec power = vec_exp(vec_add(size, size));
    const vec large = vec_subtract(vec_set(1.0f), vec_divide(vec_set(2.0f), vec_add(power, vec_set(1.0f))));
    return vec_select(vec_is_less(size, vec_set(0.625f)), small, vec_with_sign(large, x));
}

/* The rational minimax function x P(x^2) / Q(x^2) that Eigen and XLA use, for |x| <= 4, where erf is 1 in f32. */
BB_INLINE vec vec_erf(vec given)
{
    const vec x = vec_min(vec_set(4.0f), vec_max(vec_set(-4.0f), given)), z = vec_multiply(x, x);
    vec p = vec_set(-2.72614225801306e-10f);
    p = vec_fma(p, z, vec_set(2.77068142495902e-08f));
    p = vec_fma(p, z, vec_set(-2.10102402082508e-06f));
    p = vec_fma(p, z, vec_set(-5.69250639462346e-05f));
    p = vec_fma(p, z, vec_set(-7.34990630326855e-04f));
    p = vec_fma(p, z, vec_set(-2.95459980854025e-03f));
    p = vec_fma(p, z, vec_set(-1.60960333262415e-02f));
    vec q = vec_set(-1.45660718464996e-05f);
    q = vec_fma(q, z, vec_set(-2.13374055278905e-04f));
    q = vec_fma(q, z, vec_set(-1.68282697438203e-03f));
    q = vec_fma(q, z, vec_set(-7.37332916720468e-03f));
    q = vec_fma(q, z, vec_set(-1.42647390514189e-02f));
    return vec_divide(vec_multiply(x, p), q);
}

/* The angle is taken to [-pi / 4, pi / 4] by whole quarter turns, pi / 2 in three parts (Cody and Waite), then
 * Cephes' polynomials. */
BB_INLINE void vec_sine_cosine(vec angle, vec *sine, vec *cosine)
{
    const vec turns = vec_round(vec_multiply(angle, vec_set(0.636619772367581343f)));
    vec r = vec_fma(turns, vec_set(-1.57079637050628662f), angle);
    r = vec_fma(turns, vec_set(4.37113900018624283e-8f), r);
    r = vec_fma(turns, vec_set(1.71512451306e-15f), r);
    const vec z = vec_multiply(r, r);
    vec s = vec_set(-1.9515295891e-4f);
    s = vec_fma(s, z, vec_set(8.3321608736e-3f));
    s = vec_fma(s, z, vec_set(-1.6666654611e-1f));
    s = vec_fma(vec_multiply(s, z), r, r);
    vec c = vec_set(2.443315711809948e-5f);
    c = vec_fma(c, z, vec_set(-1.388731625493765e-3f));
    c = vec_fma(c, z, vec_set(4.166664568298827e-2f));
    c = vec_fma(c, vec_multiply(z, z), vec_fma(z, vec_set(-0.5f), vec_set(1.0f)));
    /* quarter: turns modulo 4. Odd ones swap sine and cosine; 2 and 3 turn the sine's sign, 1 and 2 the cosine's. */
    const vec quarter = vec_fma(vec_floor(vec_multiply(turns, vec_set(0.25f))), vec_set(-4.0f), turns);
    const vec half = vec_fma(vec_floor(vec_multiply(turns, vec_set(0.5f))), vec_set(-2.0f), turns);
    const vec_mask is_odd = vec_is_equal(half, vec_set(1.0f));
    const vec plain_sine = vec_select(is_odd, c, s), plain_cosine = vec_select(is_odd, s, c), zero = vec_set(0.0f);
    const vec from_middle = vec_absolute(vec_subtract(quarter, vec_set(1.5f))); /* 0.5 for quarters 1 and 2 */
    *sine = vec_select(vec_is_less(vec_set(1.5f), quarter), vec_subtract(zero, plain_sine), plain_sine);
    *cosine = vec_select(vec_is_less(from_middle, vec_set(1.0f)), vec_subtract(zero, plain_cosine), plain_cosine);
}

#endif
