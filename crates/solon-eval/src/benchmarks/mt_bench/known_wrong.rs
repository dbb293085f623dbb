//! MT-Bench's GPT-4 references that are known to be wrong, and what stands in their place.
//!
//! Source of the list: FastChat, pull request 3158 (Wang et al., NVIDIA, 2024): two people read all 30 references and found
//! these 13 wrong in at least one turn. Issues 3053 and 2988 say the same of 104 and 111. The corrected references are ours;
//! each is short, because it only has to tell the judge what is right.

/// The file that the list is about, without its ending.
pub(super) const FILE: &str = "gpt-4";

/// How many of its 30 questions have a wrong reference.
pub(super) const COUNT: usize = CORRECTED.len();

/// The number of a question with the right answers to both turns.
const CORRECTED: [(u64, [&str; 2]); 13] = [
    (
        104,
        [
            "David has no brother. The one brother that each of his sisters has is David himself.",
            "David has one brother. Each sister's two brothers are David and one other boy.",
        ],
    ),
    (
        105,
        [
            "The secretary is Alice. In order, the cars are red, blue, green, yellow and purple. David has the last space, and \
             Alice is next to him, so hers is the fourth, the secretary's, with the yellow car. Enid's green car is the third, \
             Bert's the second and Cheryl's the first.",
            "From last to first: purple, yellow, green, blue, red.",
        ],
    ),
    (
        109,
        [
            "The shadow points to the west, because in the morning the sun is in the east.",
            "Suresh faces south. The shadow points west and lies to his right, and whoever faces south has the west on the right.",
        ],
    ),
    (
        111,
        [
            "The area is 3. From (0, 0) the sides are (-1, 1) and (3, 3), and half of |(-1)(3) - (1)(3)| = 6 is 3.",
            "The area of the circle is 5 pi. The angle at (0, 0) is a right one, because (-1)(3) + (1)(3) = 0. So the side from \
             (-1, 1) to (3, 3), whose length is the square root of 20, is a diameter, and the radius is the square root of 5.",
        ],
    ),
    (
        113,
        [
            "19 %. Blue or green is liked by 58 % + 45 % - 22 % = 81 %.",
            "0 %. A student who likes green does not dislike both colours.",
        ],
    ),
    (
        114,
        [
            "35/36. Of the 36 outcomes only one, two ones, has a total below 3.",
            "1, or 100 %. Every total is at least 3 but for 2, and 2 is even.",
        ],
    ),
    (
        120,
        [
            "f(2) = 4 * 8 - 9 * 2 - 14 = 0.",
            "x = 2. It is the only real solution: f(x) = (x - 2)(4x^2 + 8x + 7), and 4x^2 + 8x + 7 has no real root.",
        ],
    ),
    (
        122,
        [
            "A recursive function with fibonacci(0) = 0, fibonacci(1) = 1 and fibonacci(n) = fibonacci(n - 1) + fibonacci(n - 2) \
             for larger n, in a complete C++ program.",
            "The first three numbers are returned as they are given: 0, -1, -1. Each later one is the sum of the three before it: \
             -2, -4, -7, -13. A program is right if it gives these numbers.",
        ],
    ),
    (
        124,
        [
            "There is no bug: the table is filled with zeros, its size is right, and the function returns the length.",
            "There is a bug. The table is filled with None, so its first row and column are None where they should be 0, and \
             the first comparison or addition with them fails. They are to be set to 0.",
        ],
    ),
    (
        125,
        [
            "The highest common ancestor of two nodes is the root of the tree, so the function returns the root (where both nodes \
             are in the tree). It is not the lowest common ancestor.",
            "It is the root again, of any tree.",
        ],
    ),
    (
        126,
        [
            "Walk through both arrays with two indexes, always taking the smaller next element, up to the middle, and keep \
             the last two elements only. The median is the last one where the total number is odd, else the mean of the last two. No \
             merged array is built, and elements that are left in one array when the other has ended are taken too.",
            "Yes: a binary search for the place at which the arrays are cut, or for the k-th element, takes O(log(m + n)), or \
             O(log(min(m, n))).",
        ],
    ),
    (
        128,
        [
            "B_n is 0 for even n, and B_1 = 1. For odd n from 3 on, B_n is the sum of B_i * B_(n-1-i) over odd i from 1 to n - 2: \
             B_3 = 1, B_5 = 2, B_7 = 5.",
            "For full ternary trees B_1 = 1, and B_n is 0 unless n leaves remainder 1 when divided by 3. Else B_n is the sum of \
             B_i * B_j * B_k over i + j + k = n - 1: B_4 = 1, B_7 = 3, B_10 = 12.",
        ],
    ),
    (
        130,
        [
            "Compare each element of one array with those of the other, or sort both and walk through them with two indexes. No set, \
             dictionary or further array is used to find the elements, and an element that comes several times is given once.",
            "Put one array into a hash set and look up the elements of the other: O(m + n).",
        ],
    ),
];

/// Whether the reference of a question is known to be wrong.
pub(super) fn is_wrong(question: u64) -> bool {
    correction(question).is_some()
}

/// Our references of a question whose published ones are known to be wrong.
pub(super) fn correction(question: u64) -> Option<[&'static str; 2]> {
    CORRECTED.iter().find(|(known, _)| *known == question).map(|(_, turns)| *turns)
}
